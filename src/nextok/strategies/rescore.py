"""Not a way to write text but to judge one: how probable was each of its tokens?"""

from dataclasses import dataclass

from nextok.events import Chosen
from nextok.query import Decoding, score
from nextok.request import Request


def rescored(request: Request, nodes: list[int]) -> Decoding[None]:
    """Tell the raw log-probability of every token of a chain of nodes but the first."""
    if len(nodes) > 1:
        choices = yield from score(nodes[:-1], [request.tree.token[node] for node in nodes[1:]])
        for node, choice in choices.items():
            yield Chosen(node, choice.token, choice.logprob, choice.top)


@dataclass(frozen=True)
class Rescore:
    """Reads the prompt once and tells what each token after the first was worth; writes nothing."""

    def decode(self, request: Request) -> Decoding[None]:
        """Score the prompt as if it had been generated."""
        yield from rescored(request, request.tree.nodes(request.prompt))
        yield request.finish("stop")
