"""Caches whose requests have ended, found by the tokens that they have read, within a number of bytes."""

from array import array
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary, ref

from nextok.engine.radix import Radix, pack_tokens
from nextok.models.base import Cache, Model


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """One cache. It is forked and never written, so its pages stay the same."""

    model: "ref[Model]"
    tokens: "array[int]"
    cache: Cache


class KeptCaches:
    """At most `budget` bytes of caches; those that were not used for the longest time are dropped first.

    A page that several of them share counts once. `least`: tokens; shorter beginnings are neither kept nor found.
    Models are not kept: the caches of one that is freed are not found any more, and are dropped in their turn.
    """

    def __init__(self, budget: int = 0, least: int = 1) -> None:
        self.budget = budget
        self.least = least
        self.bytes = 0  # of all pages
        self.dropped = 0  # caches for which there was no more room
        self._texts: WeakKeyDictionary[Model, Radix[Kept]] = WeakKeyDictionary()
        self._kept: OrderedDict[Kept, None] = OrderedDict()  # the least recently used one first
        self._sharers: Counter[int] = Counter()  # page -> how many of the caches have it

    @property
    def count(self) -> int:
        """How many caches are kept."""
        return len(self._kept)

    def find(self, model: Model, tokens: Sequence[int]) -> tuple[int, Cache | None]:
        """How many of `tokens` a cache begins with at most, and that cache, which counts as used now."""
        texts = self._texts.get(model) if self._kept else None
        alike, kept = texts.find(pack_tokens(tokens), self.least) if texts else (0, None)
        if kept is None:
            return 0, None
        self._kept.move_to_end(kept)
        return alike, kept.cache

    def keep(self, model: Model, tokens: Sequence[int], cache: Cache) -> None:
        """Keep a cache that holds `tokens` and is not written any more.

        It is not kept if another one holds these tokens too, or if it has more bytes than the budget; one that holds
        fewer of the same tokens is replaced.
        """
        packed, pages = pack_tokens(tokens), cache.pages()
        if len(packed) < self.least or sum(pages.values()) > self.budget:
            return
        texts = self._texts.setdefault(model, Radix())
        alike, older = texts.find(packed)
        if older and alike == len(packed):
            self._kept.move_to_end(older)
            return
        kept = Kept(ref(model), packed, cache)
        if replaced := texts.put(packed, kept):
            self._release(replaced)
        self._kept[kept] = None
        for page, size in pages.items():
            self._sharers[page] += 1
            self.bytes += size if self._sharers[page] == 1 else 0
        while self.bytes > self.budget:
            self._drop_oldest()

    def clear(self) -> None:
        """Drop all caches."""
        for forget in (self._texts.clear, self._kept.clear, self._sharers.clear):
            forget()
        self.bytes = 0

    def _drop_oldest(self) -> None:
        oldest = next(iter(self._kept))
        model = oldest.model()
        if model is not None:
            self._texts[model].remove(oldest.tokens)
        self._release(oldest)
        self.dropped += 1

    def _release(self, kept: Kept) -> None:
        """Count the pages of a cache no more; with it those are freed that no other one has."""
        del self._kept[kept]
        for page, size in kept.cache.pages().items():
            self._sharers[page] -= 1
            if not self._sharers[page]:
                del self._sharers[page]
                self.bytes -= size
