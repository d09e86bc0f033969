"""/v1/chat/completions: conversations that the model answers."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from nextok.api.answers import choose_texts, tell_chat_finish
from nextok.api.decoding import Decoding, read_decoding
from nextok.api.errors import ApiError
from nextok.api.fields import Values
from nextok.api.forms import FORMS
from nextok.api.served import Served
from nextok.api.task import Task
from nextok.api.texts import chat_logprobs, tell_prompt_logprobs
from nextok.chat.answer import AnswerReader
from nextok.chat.events import AnswerEvent, CallArguments, CallBegun, Content, Reasoning
from nextok.chat.turn import ChatTurn
from nextok.generation.output import Completion, Output
from nextok.generation.stream import AsyncStream, Piece

TURN_OPTIONS = ("tools", "tool_choice", "parallel_tool_calls", "chat_template_kwargs", "continue_final_message")


def read_chat(served: Served, values: Values) -> "ChatTask":
    """The task of a request; ApiError, ValueError or TemplateError if something is wrong with it."""
    alternatives = _read_logprobs(values)
    if values.get("max_tokens") == 0:
        raise ApiError(400, "max_tokens must be at least 1, got 0", "max_tokens")
    turn = read_turn(served, values)
    decoding = read_decoding(values, served, alternatives)
    if turn.grammar is not None:
        if "grammar" in decoding.options:
            line = f"a forced tool_choice and another form of the answer ({' or '.join(FORMS)}) contradict each other"
            raise ApiError(400, line, "tool_choice")
        decoding.options["grammar"] = turn.grammar
    decoding.options["max_tokens"] = values.get("max_tokens", served.lm.model.context - len(turn.ids))
    return ChatTask(served, values, turn, decoding, alternatives)


def read_turn(served: Served, values: Values) -> ChatTurn:
    """The prompt of the conversation, and how its answer is read; ValueError or TemplateError where it is wrong."""
    served.check_characters(sum(map(len, _collect_texts(values["messages"]))), "messages")
    options: Any = {name: values[name] for name in TURN_OPTIONS if name in values}
    turn, most = served.lm.begin_chat(values["messages"], **options), served.lm.model.context
    if len(turn.ids) >= most:
        line = f"the messages have {len(turn.ids)} tokens and the model's context is {most}"
        raise ApiError(400, line, "messages", "context_length_exceeded")
    return turn


def _collect_texts(messages: list[Any]) -> list[str]:
    """The texts of a conversation that has not been checked."""
    contents = [message.get("content") for message in messages if isinstance(message, dict)]
    parts = [part for content in contents for part in (content if isinstance(content, list) else [content])]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    return [text for text in texts if isinstance(text, str)]


def _read_logprobs(values: Values) -> int | None:
    """How many alternatives are told; None: no log-probabilities."""
    if "top_logprobs" in values and not values.get("logprobs"):
        raise ApiError(400, "top_logprobs means nothing without logprobs: true", "top_logprobs")
    return values.get("top_logprobs", 0) if values.get("logprobs") else None


class ChatTask(Task):
    """A conversation and its answers."""

    PREFIX = "chatcmpl"
    KIND, CHUNK_KIND = "chat.completion", "chat.completion.chunk"

    def __init__(
        self, served: Served, values: Values, turn: ChatTurn, decoding: Decoding, alternatives: int | None
    ) -> None:
        super().__init__(served, values, [turn.ids], decoding, alternatives)
        self._turn = turn

    def tell(self, outputs: Sequence[Output]) -> dict[str, Any]:
        """The answer; what is told of the prompt stands beside the choices."""
        tokenizer, [output] = self.served.lm.tokenizer, outputs
        ids = {"prompt_token_ids": self._turn.ids} if self._with_ids else {}
        return (
            super().tell(outputs) | ids | tell_prompt_logprobs(tokenizer, output.prompt_logprobs, self._with_prompt)
        )

    def tell_choices(self, outputs: Sequence[Output]) -> list[dict[str, Any]]:
        """Every answer as a message."""
        [output] = outputs
        chosen = choose_texts(output, self.decoding.texts)
        return [self._tell_choice(index, choice) for index, choice in enumerate(chosen)]

    def _tell_choice(self, index: int, choice: Completion) -> dict[str, Any]:
        told = None
        if self.alternatives is not None and choice.logprobs is not None:
            told = chat_logprobs(self.served.lm.tokenizer, choice.logprobs, self.alternatives)
        message = self._turn.read(choice.text, choice.tokens) | {"refusal": None}
        finish = tell_chat_finish(choice.finish_reason, message)
        answer = {"index": index, "message": message, "logprobs": told, "finish_reason": finish}
        return answer | ({"token_ids": choice.tokens} if self._with_ids else {})

    async def tell_pieces(self, stream: AsyncStream) -> AsyncGenerator[dict[str, Any], None]:
        """Of each answer its role, its pieces and its end."""
        readers: dict[int, AnswerReader | None] = {}  # of the answers that have begun
        async for piece in stream:
            if piece.choice not in readers:
                readers[piece.choice] = self._turn.open_reader()
                yield _make(piece.choice, {"role": "assistant", "content": ""})
            reader = readers[piece.choice]
            events = [Content(piece.text)] if reader is None else reader.feed(piece.text, piece.tokens)
            for choice in self._tell_piece(piece, events):
                yield choice
        for index, ended in enumerate((await stream.output()).choices):
            reader = readers.get(index)
            for event in reader.finish() if reader else ():
                yield _make(index, _tell_event(event))
            message = reader.message() if reader else {}
            yield _make(index, {}, finish=tell_chat_finish(ended.finish_reason, message))

    def _tell_piece(self, piece: Piece, events: Sequence[AnswerEvent]) -> list[dict[str, Any]]:
        """The choices of one piece; the first has its log-probabilities and token ids, if they were asked for."""
        deltas = [_tell_event(event) for event in events]
        told = None
        if self.alternatives is not None and piece.logprobs is not None:
            told = chat_logprobs(self.served.lm.tokenizer, piece.logprobs, self.alternatives)
        if not deltas and (told or self._with_ids):
            deltas = [{}]
        choices = [_make(piece.choice, delta, None if place else told) for place, delta in enumerate(deltas)]
        if self._with_ids:
            choices[0]["token_ids"] = list(piece.tokens)
        return choices


def _make(index: int, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


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
