"""/v1/completions: prompts that the model continues."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from nextok.api.answers import choose_texts, tell_finish
from nextok.api.decoding import read_decoding
from nextok.api.errors import ApiError
from nextok.api.fields import MOST_ALTERNATIVES, Values, show
from nextok.api.served import Served
from nextok.api.task import Task
from nextok.api.texts import LogprobTexts, tell_prompt_logprobs
from nextok.generation.output import Completion, Output
from nextok.generation.stream import AsyncStream, Piece

MOST_PROMPTS = 64
DEFAULT_TOKENS = 16
"""OpenAI's default of max_tokens; a chat goes on to the end of the context."""


def read_completion(served: Served, values: Values) -> "CompletionTask":
    """The task of a request; ApiError, ValueError or LimitError if something is wrong with it."""
    alternatives = _read_logprobs(values)
    tokens = values.get("max_tokens", DEFAULT_TOKENS)
    if tokens == 0 and (not values.get("echo") or values.get("stream")):
        raise ApiError(400, "max_tokens must be at least 1, but for echo without stream", "max_tokens")
    prompts = _read_prompts(served, values["prompt"], room=min(tokens, 1))
    if values.get("stream") and len(prompts) > 1:
        raise ApiError(400, f"one prompt can be streamed, got {len(prompts)}", "prompt")
    decoding = read_decoding(values, served, alternatives)
    decoding.options["max_tokens"] = max(tokens, 1)
    kind = CompletionTask if tokens else EchoTask
    return kind(served, values, prompts, decoding, alternatives)


class CompletionTask(Task):
    """Prompts, and the texts that go on from them."""

    PREFIX = "cmpl"
    KIND = CHUNK_KIND = "text_completion"

    def tell_choices(self, outputs: Sequence[Output]) -> list[dict[str, Any]]:
        """Every text of every prompt."""
        told = [
            (ids, output, choice)
            for ids, output in zip(self.prompts, outputs)
            for choice in choose_texts(output, self.decoding.texts)
        ]
        return [self._tell_choice(index, *each) for index, each in enumerate(told)]

    def _tell_choice(self, index: int, ids: list[int], output: Output, choice: Completion) -> dict[str, Any]:
        logprobs, begun = self._open_logprobs(), ""
        if self.values.get("echo"):
            begun = self._tell_echo(ids, output, logprobs)
        if logprobs and choice.logprobs is not None:
            logprobs.add_tokens(choice.logprobs)
        answer = self._make(index, begun + choice.text, logprobs, tell_finish(choice.finish_reason))
        if self._with_ids:
            answer |= {"token_ids": choice.tokens, "prompt_token_ids": ids}
        return answer | tell_prompt_logprobs(self.served.lm.tokenizer, output.prompt_logprobs, self._with_prompt)

    async def tell_pieces(self, stream: AsyncStream) -> AsyncGenerator[dict[str, Any], None]:
        """The prompt if it is echoed, every piece, then the ends."""
        logprobs = {index: self._open_logprobs() for index in range(self.decoding.texts)}
        begun: set[int] = set()
        async for piece in stream:
            if self.values.get("echo") and piece.choice not in begun:
                begun.add(piece.choice)
                yield self._tell_begun(piece.choice, await stream.output(), logprobs[piece.choice])
            yield self._tell_piece(piece, logprobs[piece.choice])
        output = await stream.output()
        for index, choice in enumerate(output.choices):
            if self.values.get("echo") and index not in begun:
                yield self._tell_begun(index, output, logprobs[index])
            yield self._make(index, "", None, tell_finish(choice.finish_reason))

    def _tell_begun(self, index: int, output: Output, logprobs: LogprobTexts | None) -> dict[str, Any]:
        text = self._tell_echo(self.prompts[0], output, logprobs)
        return self._make(index, text, logprobs, None)

    def _tell_piece(self, piece: Piece, logprobs: LogprobTexts | None) -> dict[str, Any]:
        if logprobs:
            logprobs.begin_part()
            logprobs.add_tokens(piece.logprobs or ())
        answer = self._make(piece.choice, piece.text, logprobs, None)
        return answer | ({"token_ids": list(piece.tokens)} if self._with_ids else {})

    def _tell_echo(self, ids: list[int], output: Output, logprobs: LogprobTexts | None) -> str:
        if logprobs and output.prompt_logprobs:
            logprobs.add_scores(output.prompt_logprobs)
        return self.served.lm.tokenizer.decode(ids)

    def _open_logprobs(self) -> LogprobTexts | None:
        if self.alternatives is None:
            return None
        return LogprobTexts(self.served.lm.tokenizer, self.alternatives)

    def _make(self, index: int, text: str, logprobs: LogprobTexts | None, finish: str | None) -> dict[str, Any]:
        told = logprobs.to_json() if logprobs else None
        return {"index": index, "text": text, "logprobs": told, "finish_reason": finish}


class EchoTask(CompletionTask):
    """Prompts that are read and told, with nothing after them: how probable texts are."""

    def begin(self) -> list[AsyncStream]:
        """A stream of each prompt, without a piece."""
        most = max(self.alternatives or 0, self._with_prompt or 0)
        return [self.served.lm.astream_scores(ids, most) for ids in self.prompts]

    def _tell_choice(self, index: int, ids: list[int], output: Output, choice: Completion) -> dict[str, Any]:
        return super()._tell_choice(index, ids, output, Completion("", [], "length", seed=0))


def _read_prompts(served: Served, given: Any, room: int) -> list[list[int]]:
    """The token ids of each prompt, after which `room` tokens fit into the context.

    ApiError unless it is a text, a list of ids, or a list of these.
    """
    listed = given if isinstance(given, list) and given and isinstance(given[0], str | list) else [given]
    if len(listed) > MOST_PROMPTS:
        raise ApiError(400, f"at most {MOST_PROMPTS} prompts in one request, got {len(listed)}", "prompt")
    return [_read_prompt(served, place, prompt, room) for place, prompt in enumerate(listed)]


def _read_prompt(served: Served, place: int, prompt: Any, room: int) -> list[int]:
    size, context = served.lm.model.vocab_size, served.lm.model.context
    if isinstance(prompt, str):
        served.check_characters(len(prompt), "prompt")
        try:
            prompt = served.lm.tokenizer.encode(prompt)
        except ValueError as error:
            raise ApiError(400, f"prompt {place}: {error}", "prompt") from None
    if (
        not isinstance(prompt, list)
        or not prompt
        or not all(type(each) is int and 0 <= each < size for each in prompt)
    ):
        rule = f"a text that is not empty, or a list of token ids from 0 to {size - 1}"
        raise ApiError(400, f"prompt {place} must be {rule}, got {show(prompt)}", "prompt")
    if len(prompt) + room > context:
        line = f"prompt {place} has {len(prompt)} tokens and the model's context is {context}"
        raise ApiError(400, line, "prompt", "context_length_exceeded")
    return prompt


def _read_logprobs(values: Values) -> int | None:
    count = values.get("logprobs")
    if count is None or count is False:
        return None
    if type(count) is not int or not 0 <= count <= MOST_ALTERNATIVES:
        line = f"logprobs must be a whole number from 0 to {MOST_ALTERNATIVES}, got {show(count)}"
        raise ApiError(400, line, "logprobs")
    return count
