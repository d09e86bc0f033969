"""What one request asks of the library, read and checked, and how its answer is told."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from typing import Any, ClassVar

from nextok.api.answers import begin_answer, tell_usage
from nextok.api.decoding import Decoding
from nextok.api.errors import ApiError
from nextok.api.fields import Values
from nextok.api.served import Served
from nextok.generation.output import Output
from nextok.generation.stream import AsyncStream

MOST_ROWS = 256
"""Largest number of texts that one request may write at once, beams counted."""


class Task(ABC):
    """A request: some prompts, decoded alike.

    A caller runs it with `begin`, waits for the streams' outputs, and gives them to `tell`; or gives the only stream
    to `tell_stream`, which reads it.
    """

    PREFIX: ClassVar[str]
    """How the ids of its answers begin."""
    KIND: ClassVar[str]
    """The `object` of an answer."""
    CHUNK_KIND: ClassVar[str]
    """The `object` of a chunk."""

    def __init__(
        self, served: Served, values: Values, prompts: list[list[int]], decoding: Decoding, alternatives: int | None
    ) -> None:
        self.served = served
        self.values = values
        self.prompts = prompts
        self.decoding = decoding
        self.alternatives = alternatives  # told of each token; None: no log-probabilities are told
        self.is_streamed = bool(values.get("stream"))
        self._with_usage = bool(values.get("stream_options", {}).get("include_usage"))
        self._with_ids = bool(values.get("return_token_ids"))
        self._with_prompt = values.get("prompt_logprobs")
        if self.rows > MOST_ROWS:
            raise ApiError(400, f"one request may write {MOST_ROWS} texts at once, beams counted, got {self.rows}")

    @property
    def rows(self) -> int:
        """How many texts are written at once: prompts times samples times beams."""
        return len(self.prompts) * self.decoding.rows

    @property
    def tokens(self) -> int:
        """How many tokens its prompts have."""
        return sum(map(len, self.prompts))

    def begin(self) -> list[AsyncStream]:
        """A stream of each prompt; nothing is computed before they are read."""
        return [self.served.lm.astream(ids, self.decoding.strategy, **self.decoding.options) for ids in self.prompts]

    def tell(self, outputs: Sequence[Output]) -> dict[str, Any]:
        """The answer."""
        head = begin_answer(self.PREFIX, self.KIND, self.served.name)
        warnings = {"warnings": self.values.ignored} if self.values.ignored else {}
        return head | warnings | {"choices": self.tell_choices(outputs), "usage": tell_usage(outputs)}

    async def tell_stream(self, stream: AsyncStream) -> AsyncGenerator[dict[str, Any], None]:
        """The chunks of the answer: every piece, the ends, and the numbers of tokens if they were asked for."""
        head = begin_answer(self.PREFIX, self.CHUNK_KIND, self.served.name)
        if self.values.ignored:
            head["warnings"] = self.values.ignored
        if self._with_usage:
            head["usage"] = None
        async for choice in self.tell_pieces(stream):
            yield head | {"choices": [choice]}
        if self._with_usage:
            yield head | {"choices": [], "usage": tell_usage([await stream.output()])}

    @abstractmethod
    def tell_choices(self, outputs: Sequence[Output]) -> list[dict[str, Any]]:
        """The choices of all prompts."""

    @abstractmethod
    def tell_pieces(self, stream: AsyncStream) -> AsyncGenerator[dict[str, Any], None]:
        """The choices of a streamed answer, one a chunk."""
