"""An order of transforms, and then the draw."""

from dataclasses import dataclass

from nextok.sampling.penalties import LooksBack
from nextok.sampling.transforms import Edit, Filter

Transform = Filter | Edit | LooksBack


@dataclass(frozen=True, slots=True)
class Sampler:
    """An ordered choice of transforms, then the draw; without noise the draw is the largest logit."""

    transforms: tuple[Transform, ...] = ()
    noise: bool = True
