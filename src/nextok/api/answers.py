"""What all answers share: their ids, their numbers of tokens, and the best of several texts."""

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from nextok.generation.output import Completion, Output

FINISH = {"stop": "stop", "length": "length", "context": "length", "timeout": "length"}
"""Our finish reasons in OpenAI's words."""


def begin_answer(prefix: str, kind: str, model: str) -> dict[str, Any]:
    """The fields with which every object of an answer begins."""
    return {"id": f"{prefix}-{secrets.token_hex(12)}", "object": kind, "created": int(time.time()), "model": model}


def tell_ignored(ignored: Sequence[str]) -> dict[str, str]:
    """The header that names the fields that changed nothing; a client chose the names, so they are escaped."""
    names = ", ".join(quote(name, safe="", errors="replace") for name in ignored)
    return {"x-nextok-ignored": names.strip()} if ignored else {}  # a name may be empty; no header ends with a space


def tell_finish(reason: str) -> str:
    """Why a text ended, in OpenAI's words."""
    return FINISH.get(reason, "stop")


def tell_chat_finish(reason: str, message: Mapping[str, Any]) -> str:
    """The same of an answer that may call tools; where its length ended a call, that counts."""
    told = tell_finish(reason)
    return "tool_calls" if told == "stop" and "tool_calls" in message else told


def choose_texts(output: Output, wanted: int) -> list[Completion]:
    """The texts to return: all, or of more samples than wanted those with the best mean log-probability."""
    choices = list(output.choices)
    if len(choices) <= wanted:
        return choices

    def mean(choice: Completion) -> float:
        return sum(each.logprob for each in choice.logprobs or ()) / max(1, len(choice.tokens))

    return sorted(choices, key=mean, reverse=True)[:wanted]


def tell_usage(outputs: Sequence[Output]) -> dict[str, Any]:
    """The numbers of tokens; guesses of a draft as OpenAI tells those of a prediction."""
    stats = [output.stats for output in outputs]
    prompt, written = sum(each.prompt_tokens for each in stats), sum(each.generated_tokens for each in stats)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_tokens": sum(each.cached_tokens for each in stats)},
        "completion_tokens_details": {
            "accepted_prediction_tokens": sum(each.accepted for each in stats),
            "rejected_prediction_tokens": sum(each.drafted - each.accepted for each in stats),
        },
    }
