"""/v1/chat/completions: conversations that the model answers."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from nextok.chat.answer import AnswerEvent, AnswerReader, CallArguments, CallBegun, Content, Reasoning
from nextok.chat.turn import ChatTurn
from nextok.generation.output import Completion
from nextok.generation.stream import AsyncStream, Piece
from nextok.serve.answers import begin_answer, choose_texts, tell_finish, tell_ignored, tell_usage
from nextok.serve.bodies import read_decoding
from nextok.serve.errors import ApiError
from nextok.serve.events import answer_with_events
from nextok.serve.reading import JsonAnswer
from nextok.serve.service import Service
from nextok.serve.texts import chat_logprobs


async def answer_chat(service: Service, request: Request, values: Mapping[str, Any], ignored: list[str]) -> Response:
    """Answer one request, whose fields have been read."""
    wanted = _read_logprobs(values)
    turn = await asyncio.to_thread(begin_turn, service, values)
    decoding = await asyncio.to_thread(read_decoding, values, service.drafts, wanted)
    if turn.grammar is not None:
        if "grammar" in decoding.options:
            raise ApiError(
                400, "a forced tool_choice and another form of the answer contradict each other", "tool_choice"
            )
        decoding.options["grammar"] = turn.grammar
    decoding.options["max_tokens"] = values.get("max_tokens", max(1, service.lm.model.context - len(turn.ids)))
    more = {"warnings": ignored} if ignored else {}
    headers = tell_ignored(ignored)
    if values.get("stream"):
        head = begin_answer("chatcmpl", "chat.completion.chunk", service.name) | more
        tell = _Telling(service, values, turn, head, wanted)
        return await answer_with_events(request, service.stream(turn.ids, decoding, tell), headers)
    [output] = await service.run(request, [turn.ids], decoding)
    choices = [
        _tell_choice(service, turn, index, choice, values, wanted)
        for index, choice in enumerate(choose_texts(output, decoding.texts))
    ]
    head = begin_answer("chatcmpl", "chat.completion", service.name) | more
    prompt = {"prompt_token_ids": turn.ids} if values.get("return_token_ids") else {}
    return JsonAnswer(head | {"choices": choices, "usage": tell_usage([output])} | prompt, headers=headers)


def begin_turn(service: Service, values: Mapping[str, Any]) -> ChatTurn:
    """The prompt of the conversation, and how its answer is read; ValueError or TemplateError where it is wrong."""
    names = ("tools", "tool_choice", "parallel_tool_calls", "chat_template_kwargs", "continue_final_message")
    options: Any = {name: values[name] for name in names if name in values}
    turn, most = service.lm.begin_chat(values["messages"], **options), service.lm.model.context
    if len(turn.ids) >= most:
        line = f"the messages have {len(turn.ids)} tokens and the model's context is {most}"
        raise ApiError(400, line, "messages", "context_length_exceeded")
    return turn


def _read_logprobs(values: Mapping[str, Any]) -> int | None:
    """How many alternatives are told; None: no log-probabilities."""
    flag = values.get("logprobs", False)
    if type(flag) is not bool:
        raise ApiError(400, f"logprobs must be true or false in a chat, got {flag!r:.60}", "logprobs")
    if "top_logprobs" in values and not flag:
        raise ApiError(400, "top_logprobs means nothing without logprobs: true", "top_logprobs")
    return values.get("top_logprobs", 0) if flag else None


def _tell_choice(
    service: Service,
    turn: ChatTurn,
    index: int,
    choice: Completion,
    values: Mapping[str, Any],
    wanted: int | None,
) -> dict[str, Any]:
    told = None
    if wanted is not None and choice.logprobs is not None:
        told = chat_logprobs(service.lm.tokenizer, choice.logprobs, wanted)
    message = turn.read(choice.text, choice.tokens) | {"refusal": None}
    finish = "tool_calls" if "tool_calls" in message else tell_finish(choice.finish_reason)
    answer = {"index": index, "message": message, "logprobs": told, "finish_reason": finish}
    return answer | ({"token_ids": choice.tokens} if values.get("return_token_ids") else {})


def _tell_event(event: AnswerEvent) -> dict[str, Any]:
    """The delta of one event."""
    match event:
        case Content(text):
            return {"content": text}
        case Reasoning(text):
            return {"reasoning_content": text}
        case CallBegun(index, made, name):
            function = {"name": name, "arguments": ""}
            return {"tool_calls": [{"index": index, "id": made, "type": "function", "function": function}]}
        case CallArguments(index, text):
            return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}


class _Telling:
    """The chunks of one streamed answer."""

    def __init__(
        self,
        service: Service,
        values: Mapping[str, Any],
        turn: ChatTurn,
        head: dict[str, Any],
        wanted: int | None,
    ) -> None:
        self._service = service
        self._values = values
        self._turn = turn
        self._head = head
        self._wanted = wanted
        self._readers: dict[int, AnswerReader | None] = {}  # of the choices that have begun
        self._calling: set[int] = set()  # choices that have called a tool

    async def __call__(self, stream: AsyncStream) -> AsyncGenerator[dict[str, Any], None]:
        """The roles, every piece, the ends, and the numbers of tokens if they were asked for."""
        with_usage = self._values.get("stream_options", {}).get("include_usage")
        extra = {"usage": None} if with_usage else {}
        async for piece in stream:
            if piece.choice not in self._readers:
                self._readers[piece.choice] = self._turn.open_reader()
                yield self._chunk(piece.choice, {"role": "assistant", "content": ""}) | extra
            for chunk in self._tell_piece(piece):
                yield chunk | extra
        output = await stream.output()
        for index, choice in enumerate(output.choices):
            if reader := self._readers.get(index):
                for event in reader.finish():
                    yield self._chunk(index, self._note(index, event)) | extra
            finish = "tool_calls" if index in self._calling else tell_finish(choice.finish_reason)
            yield self._chunk(index, {}, None, finish) | extra
        if with_usage:
            yield self._head | {"choices": [], "usage": tell_usage([output])}

    def _tell_piece(self, piece: Piece) -> list[dict[str, Any]]:
        """The chunks of one piece; the first has its log-probabilities and token ids, if they were asked for."""
        reader = self._readers[piece.choice]
        events = [Content(piece.text)] if reader is None else reader.feed(piece.text, piece.tokens)
        deltas = [self._note(piece.choice, event) for event in events]
        told = None
        if self._wanted is not None and piece.logprobs is not None:
            told = chat_logprobs(self._service.lm.tokenizer, piece.logprobs, self._wanted)
        ids = bool(self._values.get("return_token_ids"))
        if not deltas and (told or ids):
            deltas = [{}]
        chunks = [self._chunk(piece.choice, delta, None if place else told) for place, delta in enumerate(deltas)]
        if ids:
            chunks[0]["choices"][0]["token_ids"] = list(piece.tokens)
        return chunks

    def _note(self, choice: int, event: AnswerEvent) -> dict[str, Any]:
        if isinstance(event, CallBegun):
            self._calling.add(choice)
        return _tell_event(event)

    def _chunk(
        self, index: int, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None
    ) -> dict[str, Any]:
        return self._head | {
            "choices": [{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}]
        }
