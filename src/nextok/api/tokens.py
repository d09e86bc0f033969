"""Requests that need no decoding: token ids of texts and conversations, and texts of token ids."""

from typing import Any

from nextok.api.chat import TURN_OPTIONS, read_turn
from nextok.api.errors import ApiError
from nextok.api.fields import CHAT, DETOKENIZE, TEMPLATE, TOKENIZE, read_fields
from nextok.api.served import Served
from nextok.api.texts import spell


def tokenize(served: Served, body: Any) -> dict[str, Any]:
    """The token ids of a text or a conversation. vLLM's fields and llama.cpp's."""
    values, tokenizer = read_fields(body, TOKENIZE, served.strict), served.lm.tokenizer
    if ("messages" in values) == ("prompt" in values):
        raise ApiError(400, "the body needs prompt, a text, or messages", "prompt")
    if "messages" in values:
        ids = read_turn(served, values).ids
    else:
        values.ignore_all(TURN_OPTIONS, "means nothing without messages")
        ids = tokenizer.encode(values["prompt"], special=values.get("add_special_tokens", True))
    texts = {"token_strs": [spell(tokenizer, token) for token in ids]} if values.get("return_token_strs") else {}
    return {"tokens": ids, "count": len(ids), "max_model_len": served.lm.model.context} | texts


def detokenize(served: Served, body: Any) -> dict[str, Any]:
    """The text of token ids, under vLLM's name and llama.cpp's."""
    text = served.lm.tokenizer.decode(read_fields(body, DETOKENIZE, served.strict)["tokens"])
    return {"prompt": text, "content": text}


def apply_template(served: Served, body: Any) -> dict[str, Any]:
    """What the model reads of a conversation."""
    turn = read_turn(served, read_fields(body, TEMPLATE, served.strict))
    return {"prompt": turn.prompt, "tokens": turn.ids}


def count_chat(served: Served, body: Any) -> dict[str, Any]:
    """How many tokens the prompt of a chat request has."""
    ids = read_turn(served, read_fields(body, CHAT, served.strict)).ids
    return {"object": "response.input_tokens", "input_tokens": len(ids)}
