"""/v1/chat/completions: conversations that the model answers."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from nextok.generation.output import Completion
from nextok.generation.stream import AsyncStream
from nextok.serve.answers import begin_answer, choose_texts, tell_finish, tell_usage
from nextok.serve.bodies import read_decoding
from nextok.serve.errors import ApiError
from nextok.serve.events import answer_with_events
from nextok.serve.reading import JsonAnswer
from nextok.serve.service import Service
from nextok.serve.texts import chat_logprobs


async def answer_chat(service: Service, request: Request, values: Mapping[str, Any], ignored: list[str]) -> Response:
    """Answer one request, whose fields have been read."""
    wanted = _read_logprobs(values)
    ids = await asyncio.to_thread(write_prompt, service, values)
    decoding = await asyncio.to_thread(read_decoding, values, service.drafts, wanted)
    decoding.options["max_tokens"] = values.get("max_tokens", max(1, service.lm.model.context - len(ids)))
    more = {"warnings": ignored} if ignored else {}
    headers = {"x-nextok-ignored": ", ".join(ignored)} if ignored else {}
    if values.get("stream"):
        head = begin_answer("chatcmpl", "chat.completion.chunk", service.name) | more
        return await answer_with_events(
            service.stream(ids, decoding, _Telling(service, values, head, wanted)), headers
        )
    [output] = await service.run(request, [ids], decoding)
    choices = [
        _tell_choice(service, index, choice, values, wanted)
        for index, choice in enumerate(choose_texts(output, decoding.texts))
    ]
    head = begin_answer("chatcmpl", "chat.completion", service.name) | more
    prompt = {"prompt_token_ids": ids} if values.get("return_token_ids") else {}
    return JsonAnswer(head | {"choices": choices, "usage": tell_usage([output])} | prompt, headers=headers)


def write_prompt(service: Service, values: Mapping[str, Any]) -> list[int]:
    """The token ids of the conversation; ValueError or TemplateError where the messages are wrong."""
    names = ("chat_template_kwargs", "continue_final_message")
    options: Any = {name: values[name] for name in names if name in values}
    ids = service.lm.chat_ids(values["messages"], **options)
    if len(ids) >= service.lm.model.context:
        most = service.lm.model.context
        raise ApiError(
            400,
            f"the messages have {len(ids)} tokens and the model's context is {most}",
            "messages",
            "context_length_exceeded",
        )
    return ids


def _read_logprobs(values: Mapping[str, Any]) -> int | None:
    """How many alternatives are told; None: no log-probabilities."""
    flag = values.get("logprobs", False)
    if type(flag) is not bool:
        raise ApiError(400, f"logprobs must be true or false in a chat, got {flag!r:.60}", "logprobs")
    if "top_logprobs" in values and not flag:
        raise ApiError(400, "top_logprobs means nothing without logprobs: true", "top_logprobs")
    return values.get("top_logprobs", 0) if flag else None


def _tell_choice(
    service: Service, index: int, choice: Completion, values: Mapping[str, Any], wanted: int | None
) -> dict[str, Any]:
    told = None
    if wanted is not None and choice.logprobs is not None:
        told = chat_logprobs(service.lm.tokenizer, choice.logprobs, wanted)
    message = {"role": "assistant", "content": choice.text, "refusal": None}
    answer = {
        "index": index,
        "message": message,
        "logprobs": told,
        "finish_reason": tell_finish(choice.finish_reason),
    }
    return answer | ({"token_ids": choice.tokens} if values.get("return_token_ids") else {})


class _Telling:
    """The chunks of one streamed answer."""

    def __init__(self, service: Service, values: Mapping[str, Any], head: dict[str, Any], wanted: int | None) -> None:
        self._service = service
        self._values = values
        self._head = head
        self._wanted = wanted

    async def __call__(self, stream: AsyncStream) -> AsyncGenerator[dict[str, Any], None]:
        """The roles, every piece, the ends, and the numbers of tokens if they were asked for."""
        with_usage = self._values.get("stream_options", {}).get("include_usage")
        extra = {"usage": None} if with_usage else {}
        begun = set[int]()
        async for piece in stream:
            if piece.choice not in begun:
                begun.add(piece.choice)
                yield self._chunk(piece.choice, {"role": "assistant", "content": ""}) | extra
            told = None
            if self._wanted is not None and piece.logprobs is not None:
                told = chat_logprobs(self._service.lm.tokenizer, piece.logprobs, self._wanted)
            chunk = self._chunk(piece.choice, {"content": piece.text}, told) | extra
            if self._values.get("return_token_ids"):
                chunk["choices"][0]["token_ids"] = list(piece.tokens)
            yield chunk
        output = await stream.output()
        for index, choice in enumerate(output.choices):
            yield self._chunk(index, {}, None, tell_finish(choice.finish_reason)) | extra
        if with_usage:
            yield self._head | {"choices": [], "usage": tell_usage([output])}

    def _chunk(
        self, index: int, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None
    ) -> dict[str, Any]:
        return self._head | {
            "choices": [{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}]
        }
