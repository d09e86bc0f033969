"""A strategy of your own: it asks and it commits; batching, the cache and stops need no line of it."""

from dataclasses import dataclass

import nextok as nt
from nextok.extend import Strategy, top


@dataclass(frozen=True)
class Contrary(Strategy):
    """Always takes the second-best token."""

    def decode(self, request):
        while not request.finish_reason:
            candidates = yield from top([request.tip], 2)
            yield from request.commit([candidates[request.tip][1].token])


lm = nt.load("smollm2")
for output in lm.generate(["Hello", "The sky is"], Contrary(), max_tokens=10):
    print(repr(output.text))
