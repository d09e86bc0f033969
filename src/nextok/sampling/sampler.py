"""What a transform is, an order of transforms, and then the draw."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from nextok.sampling.past import Past


class Transform:
    """A change of a row of scores before a token is chosen: a frozen record of numbers, no arrays.

    Filters and edits say what to change. A penalty looks back: `at` tells what it means after each text.
    """

    __slots__ = ()

    def at(self, past: Past) -> "Transform | None":
        """What it means after this text, None if nothing; one that does not look back is always itself."""
        return self

    def permits(self, past: Past, token: int) -> bool:
        """Whether it lets this token follow the text, as far as it can tell without scores."""
        return True


@runtime_checkable
class LooksBack(Protocol):
    """Any object that means a transform after each text; it need not be a Transform itself."""

    def at(self, past: Past) -> Transform | None:
        """What it means after this text; None if nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Foreign(Transform):
    """A plain object with `at`, as a transform."""

    inner: LooksBack

    def at(self, past: Past) -> Transform | None:
        """What the object means."""
        return self.inner.at(past)


@dataclass(frozen=True, slots=True)
class Sampler:
    """An ordered choice of transforms, then the draw; without noise the draw is the largest logit."""

    transforms: tuple[Transform, ...] = ()
    noise: bool = True


def not_a_transform(each: Any) -> ValueError:
    """The error of something that stands where a transform must stand."""
    return ValueError(
        f"{each!r:.80} is not a transform: a transform is a record of nextok.sampling.transforms or has `at(past)`"
    )


def transforms_after(transforms: Iterable[Transform], past: Callable[[], Past]) -> tuple[Transform, ...]:
    """What each transform means after one text; `past` is called only if one of them looks back.

    ValueError names what is not a transform.
    """
    given, looks_back = tuple(transforms), False
    for each in given:
        if isinstance(each, type) or not isinstance(each, (Transform, LooksBack)):
            raise not_a_transform(each)
        looks_back = looks_back or type(each).at is not Transform.at
    if not looks_back:
        return given
    text = past()
    return tuple(meant for each in given if (meant := each.at(text)) is not None)
