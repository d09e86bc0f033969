"""Prompt lookup: what followed these words last time will follow them again."""

from dataclasses import dataclass

from nextok.drafts.base import Propose, checked_max_draft
from nextok.query import Decoding
from nextok.request import Request
from nextok.sampling.sampler import Sampler


@dataclass(frozen=True)
class PromptLookup:
    """Copies what followed the latest earlier occurrence of the text's last `longest` .. `shortest` tokens.

    It asks no model, so a wrong guess costs little; it shines where the output repeats the input.
    """

    max_draft: int = 10
    longest: int = 3
    shortest: int = 2

    def __post_init__(self) -> None:
        checked_max_draft(self.max_draft)
        if {type(self.shortest), type(self.longest)} != {int} or not 1 <= self.shortest <= self.longest <= 16:
            raise ValueError(
                f"shortest and longest must be whole numbers, 1 <= shortest <= longest <= 16, "
                f"got {self.shortest} and {self.longest}"
            )

    def begin(self, request: Request, sampler: Sampler) -> Propose:
        """Remember where every short run of tokens ended last, so that a guess costs the same at any length."""
        tokens = request.tree.path(request.prompt)
        start = len(tokens) - len(request.tokens)
        ended: dict[tuple[int, ...], int] = {}
        indexed = 0

        def propose() -> Decoding[list[int]]:
            nonlocal indexed
            yield from ()
            tokens.extend(request.tokens[len(tokens) - start :])
            for end in range(indexed, len(tokens)):  # runs that end before the last token: something follows them
                for size in range(self.shortest, self.longest + 1):
                    if end >= size:
                        ended[tuple(tokens[end - size : end])] = end
            indexed = len(tokens)
            return _lay_out(request, self._followers(tokens, ended)[: min(self.max_draft, request.room - 1)])

        return propose

    def _followers(self, tokens: list[int], ended: dict[tuple[int, ...], int]) -> list[int]:
        for size in range(self.longest, self.shortest - 1, -1):
            end = ended.get(tuple(tokens[-size:]))
            if end is not None:
                return tokens[end : end + self.max_draft]
        return []


def _lay_out(request: Request, tokens: list[int]) -> list[int]:
    nodes, node = [], request.tip
    for token in tokens:
        node = request.tree.add(node, token)
        nodes.append(node)
    return nodes
