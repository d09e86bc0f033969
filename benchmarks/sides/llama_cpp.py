"""llama.cpp through the low-level calls of llama-cpp-python: a third faster than its `Llama.generate`."""

import time

import llama_cpp
import llama_cpp.llama_cpp as low
import numpy as np

from sides import filler

FLASH = {True: 1, False: 0}  # llama_flash_attn_type: enabled, disabled
ROOM = 512  # tokens of a text, prompt included, in all work but that at depth


class Side:
    def __init__(self, model, threads, prompt):
        low.llama_backend_init()
        self.model = low.llama_model_load_from_file(model.encode(), low.llama_model_default_params())
        if not self.model:
            raise OSError(f"llama.cpp cannot load {model}")
        self.vocab = low.llama_vocab_n_tokens(low.llama_model_get_vocab(self.model))
        self.threads, self.prompt = threads, prompt
        self.batch = low.llama_batch_init(ROOM, 0, 1)
        self.shape = None
        self._open(1, ROOM, True)
        system = low.llama_print_system_info().decode().strip()
        self.versions = {"llama-cpp-python": llama_cpp.__version__, "llama.cpp": system}
        self.notes = {}  # work -> whether flash attention was faster

    def _open(self, sequences, room, flash):
        """An empty context of this shape; the one before it is gone, so that memory holds one at a time."""
        if self.shape == (sequences, room, flash):
            low.llama_memory_clear(self.memory, True)
            return
        if self.shape:
            low.llama_free(self.context)
        params = low.llama_context_default_params()
        params.n_ctx, params.n_seq_max, params.n_batch = sequences * room, sequences, ROOM
        params.n_threads = params.n_threads_batch = self.threads
        params.flash_attn_type = FLASH[flash]
        self.context = low.llama_init_from_model(self.model, params)
        self.memory = low.llama_get_memory(self.context)
        self.shape = (sequences, room, flash)
        self.filled = 0

    def _pass(self, tokens, positions, sequences, wanted):
        """Read these tokens; the best next token of each of those wanted."""
        batch, count = self.batch, len(tokens)
        batch.n_tokens = count
        for index in range(count):
            batch.token[index] = tokens[index]
            batch.pos[index] = positions[index]
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = sequences[index]
            batch.logits[index] = wanted[index]
        if low.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")
        rows = sum(wanted)
        if not rows:
            return []
        logits = np.ctypeslib.as_array(low.llama_get_logits(self.context), (rows * self.vocab,))
        return logits.reshape(rows, self.vocab).argmax(axis=1).tolist()

    def _read(self, tokens):
        """Read one text from its beginning, as many tokens a pass as fit; its best next token."""
        for start in range(0, len(tokens), ROOM):
            piece = tokens[start : start + ROOM]
            last = start + len(piece) == len(tokens)
            wanted = [0] * (len(piece) - 1) + [int(last)]
            best = self._pass(piece, range(start, start + len(piece)), [0] * len(piece), wanted)
        return best[0]

    def _faster(self, name, prepare):
        """The work with or without flash attention, whichever is faster; with it the first time, which warms up."""
        if name not in self.notes:
            self.notes[name] = None
            return prepare(True)
        if self.notes[name] is None:
            seconds = {True: [], False: []}
            for flash in seconds:
                while len(seconds[flash]) < 2 or sum(seconds[flash]) < 1:
                    work = prepare(flash)
                    start = time.perf_counter()
                    work()
                    seconds[flash].append(time.perf_counter() - start)
            self.notes[name] = min(seconds[True]) <= min(seconds[False])
        return prepare(self.notes[name])

    def greedy(self, batch, tokens):
        def prepare(flash):
            self._open(batch, ROOM, flash)
            return lambda: self._greedy(batch, tokens)

        return self._faster(f"greedy {batch}", prepare)

    def _greedy(self, batch, tokens):
        texts = [[token] for token in self._prompts(batch)]
        for position in range(len(self.prompt), len(self.prompt) + tokens - 1):
            last = [text[-1] for text in texts]
            for text, token in zip(texts, self._pass(last, [position] * batch, range(batch), [1] * batch)):
                text.append(token)
        return texts

    def _prompts(self, batch):
        """Read the prompt into each sequence, as many at a time as fit into one pass."""
        length, best = len(self.prompt), []
        together = ROOM // length
        for start in range(0, batch, together):
            group = range(start, min(start + together, batch))
            sequences = [sequence for sequence in group for _ in range(length)]
            wanted = ([0] * (length - 1) + [1]) * len(group)
            best += self._pass(self.prompt * len(group), [*range(length)] * len(group), sequences, wanted)
        return best

    def rows(self, count):
        def prepare(flash):
            self._open(1, ROOM, flash)
            self._read(self.prompt)
            positions = range(len(self.prompt), len(self.prompt) + count)
            return lambda: [[token] for token in self._pass(filler(count), positions, [0] * count, [1] * count)]

        return self._faster(f"rows {count}", prepare)

    def prefill(self, count):
        def prepare(flash):
            self._open(1, max(ROOM, count), flash)
            return lambda: [[self._read(filler(count))]]

        return self._faster(f"prefill {count}", prepare)

    def deep(self, depth, tokens):
        def prepare(flash):
            shape = (1, depth + ROOM, flash)
            if self.shape != shape or self.filled != depth:
                self._open(*shape)
                self.first = self._read(filler(depth))
                self.filled = depth
            low.llama_memory_seq_rm(self.memory, 0, depth, -1)
            return lambda: [self._continue(depth, tokens)]

        return self._faster(f"deep {depth}", prepare)

    def _continue(self, depth, tokens):
        text = [self.first]
        for position in range(depth, depth + tokens):
            text += self._pass(text[-1:], [position], [0], [1])
        return text[1:]
