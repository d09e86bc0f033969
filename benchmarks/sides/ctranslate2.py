"""CTranslate2; its converter writes the folder."""

import json
from pathlib import Path

import ctranslate2

from sides import filler


class Side:
    def __init__(self, model, threads, prompt, compute_type="default"):
        self.names = json.loads((Path(model) / "vocabulary.json").read_text())
        self.generator = ctranslate2.Generator(model, compute_type=compute_type, intra_threads=threads)
        self.prompt = prompt
        self.versions = {"ctranslate2": ctranslate2.__version__}

    def greedy(self, batch, tokens):
        return lambda: self._write([self.prompt] * batch, tokens)

    def beam(self, width, tokens):
        return lambda: self._write([self.prompt], tokens, beam_size=width)

    def prefill(self, count):
        return lambda: self._write([filler(count)], 1)

    def _write(self, prompts, tokens, **options):
        texts = self.generator.generate_batch(
            [[self.names[token] for token in prompt] for prompt in prompts],
            max_length=tokens,
            min_length=tokens,
            include_prompt_in_result=False,
            **options,
        )
        return [text.sequences_ids[0] for text in texts]
