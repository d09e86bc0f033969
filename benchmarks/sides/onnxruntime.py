"""ONNX Runtime GenAI; its own model builder writes the folder."""

import json

import numpy as np
import onnxruntime_genai

from sides import filler

ROOM = 64  # more positions than a text is long


class Side:
    def __init__(self, model, threads, prompt):
        config = onnxruntime_genai.Config(model)
        session = {"intra_op_num_threads": threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
        self.model = onnxruntime_genai.Model(config)
        self.prompt = prompt
        self.versions = {"onnxruntime-genai": onnxruntime_genai.__version__}
        self.deep_one, self.read = None, 0

    def _open(self, room, **options):
        """A generator without a prompt; nothing ends a text before it is `room` tokens long."""
        params = onnxruntime_genai.GeneratorParams(self.model)
        params.set_search_options(max_length=room, min_length=room, do_sample=False, **options)
        return onnxruntime_genai.Generator(self.model, params)

    def greedy(self, batch, tokens):
        return lambda: self._write(self._open(len(self.prompt) + tokens + ROOM, batch_size=batch), batch, tokens)

    def beam(self, width, tokens):
        room = len(self.prompt) + tokens
        return lambda: self._write(self._open(room, num_beams=width, early_stopping=False), 1, tokens)

    def prefill(self, count):
        return lambda: [self._more(self._read(self._open(count + ROOM), filler(count)), 1)]

    def deep(self, depth, tokens):
        if self.read != depth:
            self.deep_one, self.read = self._read(self._open(depth + tokens + ROOM), filler(depth)), depth
        self.deep_one.rewind_to(depth - 1)
        return lambda: [self._more(self._read(self.deep_one, filler(depth)[-1:]), tokens)]

    def _read(self, generator, tokens):
        generator.append_tokens(np.array([tokens], np.int32))
        return generator

    def _more(self, generator, tokens):
        for _ in range(tokens):
            generator.generate_next_token()
        return generator.get_sequence(0)[-tokens:].tolist()

    def _write(self, generator, batch, tokens):
        generator.append_tokens(np.array([self.prompt] * batch, np.int32))
        self._more(generator, tokens)
        return [generator.get_sequence(index)[len(self.prompt) :][:tokens].tolist() for index in range(batch)]
