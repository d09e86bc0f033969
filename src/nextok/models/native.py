"""The C++ core behind the Model protocol: weights stay in their own precision, and several rows cost little more
than one.

A row's logits do not depend, to the last bit, on what else is in the pass: native/src/products.inl says why.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nextok import _native
from nextok.core.mirostat import follow
from nextok.core.query import Row
from nextok.errors import ModelFileError
from nextok.formats.files import release_pages
from nextok.formats.tensor import Checkpoint, Tensor
from nextok.models.base import Feed
from nextok.models.frequencies import compute_frequencies
from nextok.models.processors import check_threads
from nextok.readout.readout import read

ALIGNMENT = 16  # of the stream, in numbers


class NativeModel:
    """A Llama, Mistral, Qwen 2 or Qwen 3 model in the core.

    `exact`: activations and cache in float32, instead of int8 with a scale for each block of 32 and float16.
    `threads`: one for each core by default. `isa`: one of `_native.instruction_sets()`, the best one by default, or
    NEXTOK_ISA.

    The core answers all rows of a pass at once, but hands back the logits of those with a transform that it does not
    know, which numpy reads, and of those that need the answer to an earlier row, which are read one after the other.
    """

    rounds_by_shape = False  # the order of additions does not depend on the number of rows

    def __init__(
        self, checkpoint: Checkpoint, *, exact: bool = False, threads: int | None = None, isa: str | None = None
    ) -> None:
        self.backend, self.precision = "native", "exact" if exact else "fast"
        config = checkpoint.config
        if config.width % ALIGNMENT:
            raise ModelFileError(
                f"its width of {config.width} is no multiple of {ALIGNMENT}, which the native core needs: "
                "load it with another backend (--backend numpy)"
            )
        self.vocab_size = config.vocab_size
        self.context = config.context
        self._core = _native.Model(
            layers=config.layers,
            width=config.width,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_width=config.head_width,
            hidden=config.hidden,
            vocab=config.vocab_size,
            context=config.context,
            rope_width=config.rope_width,
            rope_interleaved=config.rope_interleaved,
            norm_epsilon=config.norm_epsilon,
            frequencies=compute_frequencies(config).tolist(),
            threads=check_threads(threads),
            exact=exact,
            isa=isa or os.environ.get("NEXTOK_ISA") or _native.instruction_sets()[0],
        )
        # The largest first: while one is repacked, it is in memory twice.
        sizes = {name: tensor.data.nbytes for name, tensor in checkpoint.tensors.items()}
        for name in sorted(sizes, key=lambda name: -sizes[name]):
            self._take(name.removesuffix(".weight"), checkpoint.tensors[name])
        self._core.finish()
        self._looked_up = _share_looked_up(checkpoint)

    @property
    def bytes_per_token(self) -> int:
        """What one token reads: every matrix, but of an embedding that is not the head too only its row."""
        return round(self._core.weight_bytes * (1 - self._looked_up))

    def open(self) -> Any:
        """An empty cache."""
        return self._core.open()

    def answer(self, feeds: Sequence[Feed], rows: Sequence[Row]) -> list[Any]:
        """One forward pass, then the readout."""
        answers, apart = self._core.answer(feeds, rows)
        settled = list(rows)
        for place, logits in apart:
            row = settled[place] = follow(rows[place], settled, answers)
            known = all(_native.knows(type(each)) for each in row.read.transforms)
            [answers[place]] = (_native.read if known else read)(logits, [row], row.index)
        return answers

    def logits(self, feeds: Sequence[Feed]) -> npt.NDArray[np.float32]:
        """Read all tokens of a pass; the scores, [rows, vocab], of those whose logits are wanted."""
        return self._core.logits(feeds)

    def _take(self, name: str, tensor: Tensor) -> None:
        if len(tensor.shape) == 1:
            self._core.set_vector(name, tensor.to_float32())
        else:
            self._core.set_matrix(name, tensor.kind, np.ascontiguousarray(tensor.data), *tensor.shape)
        release_pages(tensor.data)


def _share_looked_up(checkpoint: Checkpoint) -> float:
    """How much of all matrices is an embedding that is not the head as well."""
    sizes = {name: len(tensor.data) for name, tensor in checkpoint.tensors.items() if len(tensor.shape) > 1}
    return sizes["token_embd.weight"] / sum(sizes.values()) if "output.weight" in sizes else 0.0
