"""One token a step: the best one, or a draw from the distribution."""

from dataclasses import dataclass

from nextok.query import Decoding, pick
from nextok.request import Request
from nextok.sampling.transforms import MinP, Sampler, Temperature, TopK, TopP, Transform


def _decode(sampler: Sampler, request: Request) -> Decoding[None]:
    while not request.finish_reason:
        picked = yield from pick([request.tip], sampler)
        yield from request.commit(picked.values())


@dataclass(frozen=True)
class Greedy:
    """The most probable token at each step; the same text every time."""

    @property
    def sampler(self) -> Sampler:
        """No transforms and no noise."""
        return Sampler(noise=False)

    def decode(self, request: Request) -> Decoding[None]:
        """Take the best token until the text ends."""
        return _decode(self.sampler, request)


@dataclass(frozen=True)
class Sample:
    """A draw from the model's distribution, shaped by the filters in this order; temperature 0 is greedy.

    The draw depends on the request's seed, the position and the token alone, so it can be repeated anywhere.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    def __post_init__(self) -> None:
        self.sampler  # noqa: B018  # the transforms check their own values

    @property
    def sampler(self) -> Sampler:
        """The filters that are set, in order, then the draw."""
        transforms: list[Transform] = []
        if self.temperature != 0:
            transforms.append(Temperature(self.temperature))
        if self.top_k is not None:
            transforms.append(TopK(self.top_k))
        if self.top_p is not None:
            transforms.append(TopP(self.top_p))
        if self.min_p is not None:
            transforms.append(MinP(self.min_p))
        return Sampler(tuple(transforms)) if self.temperature != 0 else Sampler(noise=False)

    def decode(self, request: Request) -> Decoding[None]:
        """Draw tokens until the text ends."""
        return _decode(self.sampler, request)
