"""/v1/completions: prompts that the model continues."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from nextok.generation.output import Completion, Output, Scores
from nextok.generation.stream import AsyncStream
from nextok.serve.answers import begin_answer, choose_texts, tell_finish, tell_ignored, tell_usage
from nextok.serve.bodies import COMPLETION_TOKENS, read_decoding
from nextok.serve.errors import ApiError
from nextok.serve.events import answer_with_events
from nextok.serve.reading import JsonAnswer
from nextok.serve.service import Service
from nextok.serve.texts import completion_logprobs

MOST_PROMPTS = 64
MOST_ALTERNATIVES = 20


async def complete(service: Service, request: Request, values: Mapping[str, Any], ignored: list[str]) -> Response:
    """Answer one request, whose fields have been read."""
    lm, wanted = service.lm, _read_logprobs(values)
    prompts = await asyncio.to_thread(_read_prompts, service, values["prompt"])
    decoding = await asyncio.to_thread(read_decoding, values, service.drafts, wanted)
    tokens = values.get("max_tokens", COMPLETION_TOKENS)
    head = begin_answer("cmpl", "text_completion", service.name) | ({"warnings": ignored} if ignored else {})
    headers = tell_ignored(ignored)
    if tokens == 0:
        if not values.get("echo") or values.get("stream"):
            raise ApiError(400, "max_tokens must be at least 1, but for echo without stream", "max_tokens")
        scores = [await lm.ascore(ids, wanted or 0) for ids in prompts]
        choices = [_tell_prompt(service, index, each, wanted) for index, each in enumerate(scores)]
        usage = {
            "prompt_tokens": sum(map(len, prompts)),
            "completion_tokens": 0,
            "total_tokens": sum(map(len, prompts)),
        }
        return JsonAnswer(head | {"choices": choices, "usage": usage}, headers=headers)
    decoding.options["max_tokens"] = tokens
    decoding.options["prompt_logprobs"] = bool(values.get("echo")) and wanted is not None
    if values.get("stream"):
        if len(prompts) > 1:
            raise ApiError(400, f"one prompt can be streamed, got {len(prompts)}", "prompt")
        tell = _Telling(service, values, prompts[0], decoding.texts, head, wanted)
        return await answer_with_events(request, service.stream(prompts[0], decoding, tell), headers)
    outputs = await service.run(request, prompts, decoding)
    choices = []
    for ids, output in zip(prompts, outputs):
        for choice in choose_texts(output, decoding.texts):
            choices.append(_tell_choice(service, len(choices), ids, output, choice, values, wanted))
    return JsonAnswer(head | {"choices": choices, "usage": tell_usage(outputs)}, headers=headers)


def _read_prompts(service: Service, given: Any) -> list[list[int]]:
    """The token ids of each prompt; ApiError unless it is a text, a list of ids, or a list of these."""
    listed = given if isinstance(given, list) and given and isinstance(given[0], str | list) else [given]
    if len(listed) > MOST_PROMPTS:
        raise ApiError(400, f"at most {MOST_PROMPTS} prompts in one request, got {len(listed)}", "prompt")
    prompts = []
    for place, prompt in enumerate(listed):
        if isinstance(prompt, str):
            try:
                prompt = service.lm.tokenizer.encode(prompt)
            except ValueError as error:
                raise ApiError(400, f"prompt {place}: {error}", "prompt") from None
        size = service.lm.model.vocab_size
        if (
            not isinstance(prompt, list)
            or not prompt
            or not all(type(each) is int and 0 <= each < size for each in prompt)
        ):
            rule = f"a text that is not empty, or a list of token ids from 0 to {size - 1}"
            raise ApiError(400, f"prompt {place} must be {rule}, got {' '.join(f'{prompt!r:.60}'.split())}", "prompt")
        prompts.append(prompt)
    return prompts


def _read_logprobs(values: Mapping[str, Any]) -> int | None:
    count = values.get("logprobs")
    if count is None or count is False:
        return None
    if type(count) is not int or not 0 <= count <= MOST_ALTERNATIVES:
        raise ApiError(
            400, f"logprobs must be a whole number from 0 to {MOST_ALTERNATIVES}, got {count!r:.60}", "logprobs"
        )
    return count


def _tell_prompt(service: Service, index: int, scores: Scores, wanted: int | None) -> dict[str, Any]:
    """An echo of a prompt and nothing else."""
    tokenizer = service.lm.tokenizer
    told = None if wanted is None else completion_logprobs(tokenizer, scores.tokens, scores.logprobs, scores.top)
    return {"index": index, "text": tokenizer.decode(scores.tokens), "finish_reason": "length", "logprobs": told}


def _tell_choice(
    service: Service,
    index: int,
    ids: list[int],
    output: Output,
    choice: Completion,
    values: Mapping[str, Any],
    wanted: int | None,
) -> dict[str, Any]:
    tokenizer, echo = service.lm.tokenizer, bool(values.get("echo"))
    begun = tokenizer.decode(ids) if echo else ""
    told = None
    if wanted is not None and choice.logprobs is not None:
        tokens, logprobs = list(choice.tokens), [each.logprob for each in choice.logprobs]
        top: list[Any] = [each.top[:wanted] for each in choice.logprobs]
        if echo and output.prompt_logprobs:
            before = output.prompt_logprobs
            tokens, logprobs, top = [*before.tokens, *tokens], [*before.logprobs, *logprobs], [*before.top, *top]  # type: ignore[list-item]
        told = completion_logprobs(tokenizer, tokens, logprobs, top)
    answer = {
        "index": index,
        "text": begun + choice.text,
        "finish_reason": tell_finish(choice.finish_reason),
        "logprobs": told,
    }
    return answer | ({"token_ids": choice.tokens, "prompt_token_ids": ids} if values.get("return_token_ids") else {})


class _Telling:
    """The chunks of one streamed completion."""

    def __init__(
        self,
        service: Service,
        values: Mapping[str, Any],
        prompt: list[int],
        texts: int,
        head: dict[str, Any],
        wanted: int | None,
    ) -> None:
        self._service = service
        self._values = values
        self._prompt = prompt
        self._texts = texts
        self._head = head
        self._wanted = wanted

    async def __call__(self, stream: AsyncStream) -> AsyncGenerator[dict[str, Any], None]:
        """Every piece, then the ends, then the numbers of tokens if they were asked for."""
        tokenizer, with_usage = (
            self._service.lm.tokenizer,
            self._values.get("stream_options", {}).get("include_usage"),
        )
        extra = {"usage": None} if with_usage else {}
        if self._values.get("echo"):
            for index in range(self._texts):
                yield self._chunk(index, tokenizer.decode(self._prompt), None, None) | extra
        async for piece in stream:
            told = None
            if self._wanted is not None and piece.logprobs is not None:
                top = [each.top[: self._wanted] for each in piece.logprobs]
                told = completion_logprobs(tokenizer, piece.tokens, [each.logprob for each in piece.logprobs], top)
            chunk = self._chunk(piece.choice, piece.text, told, None) | extra
            if self._values.get("return_token_ids"):
                chunk["choices"][0]["token_ids"] = list(piece.tokens)
            yield chunk
        output = await stream.output()
        for index, choice in enumerate(output.choices):
            yield self._chunk(index, "", None, tell_finish(choice.finish_reason)) | extra
        if with_usage:
            yield self._head | {"choices": [], "usage": tell_usage([output])}

    def _chunk(self, index: int, text: str, logprobs: Any, finish: str | None) -> dict[str, Any]:
        return self._head | {
            "choices": [{"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}]
        }
