"""How probable each token of a text is that has been written already."""

from dataclasses import dataclass

from nextok.core.query import Decoding, make_chosen_event, score
from nextok.core.request import Request
from nextok.drafts.base import HasModel
from nextok.sampling.sampler import Transform
from nextok.strategies.base import Strategy, facts_of


def rescore(
    request: Request, nodes: list[int], transforms: tuple[Transform, ...] = (), per_path: bool = False
) -> Decoding[None]:
    """Tell the log-probability of every token of a chain of nodes but the first, before and after `transforms`.

    `per_path`: as in Score.
    """
    if len(nodes) > 1:
        tokens = [request.tree.token[node] for node in nodes[1:]]
        choices = yield from score(nodes[:-1], tokens, transforms, per_path)
        for node, choice in choices.items():
            yield make_chosen_event(node, choice)


@dataclass(frozen=True)
class Echo(Strategy):
    """Tells what each token of the prompt was worth, then writes as `strategy` does."""

    strategy: Strategy

    def decode(self, request: Request) -> Decoding[None]:
        """Score the prompt first; what was read for it stays in the cache."""
        yield from rescore(request, request.tree.nodes(request.prompt))
        yield from self.strategy.decode(request)

    def texts(self) -> int:
        """As of `strategy`."""
        return facts_of(self.strategy).texts()

    def is_random(self) -> bool:
        """As of `strategy`."""
        return facts_of(self.strategy).is_random()

    def models(self) -> tuple[HasModel, ...]:
        """Those of `strategy`."""
        return facts_of(self.strategy).models()


@dataclass(frozen=True)
class Silent(Strategy):
    """Writes nothing: what follows Echo when only the prompt is to be judged."""

    def decode(self, request: Request) -> Decoding[None]:
        """End at once."""
        yield request.finish("stop")
