"""nextok: the public API, and the Model protocol for passes of several rows."""

import nextok as nt
from nextok.core.query import Pick, Row
from nextok.core.tree import Tree
from nextok.generation.options import CheckedOptions
from nextok.models.base import Feed
from nextok.sampling.sampler import Sampler
from sides import filler

GREEDY = Pick(Sampler(noise=False))


class Side:
    def __init__(self, model, threads, prompt):
        self.lm = nt.load(model, backend="native", threads=threads)
        self.prompt = prompt
        self.versions = {"nextok": nt.__version__}
        self.read = {}  # depth -> the tree on which a text of that depth has been read

    def greedy(self, batch, tokens):
        return lambda: self._write([self.prompt] * batch, nt.Greedy(), tokens)

    def beam(self, width, tokens):
        return lambda: self._write([self.prompt], nt.Beam(width, early_stopping="never"), tokens)

    def prefill(self, count):
        return lambda: self._write([filler(count)], nt.Greedy(), 1)

    def _write(self, prompts, strategy, tokens):
        return [output.tokens for output in self.lm.generate(prompts, strategy, max_tokens=tokens, ignore_eos=True)]

    def rows(self, count):
        model, cache, start = self.lm.model, self.lm.model.open(), len(self.prompt)
        model.answer([Feed.from_run(cache, self.prompt, rows=[start - 1])], [Row(0, GREEDY, 0, start)])
        feed = Feed.from_run(cache, filler(count), start)
        rows = [Row(index, GREEDY, 0, start + index + 1) for index in range(count)]
        return lambda: [[choice.token] for choice in model.answer([feed], rows)]

    def deep(self, depth, tokens):
        if depth not in self.read:
            self.read = {depth: Tree()}
            self._continue(depth, 1)
        return lambda: self._continue(depth, tokens)

    def _continue(self, depth, tokens):
        options = CheckedOptions(max_tokens=tokens, ignore_eos=True)
        return [self.lm.start(filler(depth), nt.Greedy(), options, self.read[depth]).wait().tokens]
