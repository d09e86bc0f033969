"""From the JSON of a request to its task."""

from collections.abc import Callable
from typing import Any

from nextok.api.chat import read_chat
from nextok.api.completions import read_completion
from nextok.api.errors import ApiError
from nextok.api.fields import CHAT, COMPLETION, Values, read_fields, show
from nextok.api.served import Served
from nextok.api.task import Task

TASKS: dict[str, Callable[[Served, Values], Task]] = {CHAT: read_chat, COMPLETION: read_completion}
STREAM_OPTIONS = ("include_usage",)


def read_task(served: Served, route: str, body: Any) -> Task:
    """The task of a request to a route, whose tokens and form are known then: call it off an event loop.

    ApiError, ValueError or NextokError if something is wrong with it; see `explain`.
    """
    values = read_fields(body, route, served.strict)
    check_model(served, values.get("model", served.name))
    _read_stream_options(values)
    return TASKS[route](served, values)


def check_model(served: Served, name: str) -> None:
    """ApiError (404) unless the model is called so."""
    if name != served.name:
        line = f"there is no model {show(name)}; this server has {served.name}"
        raise ApiError(404, line, "model", "model_not_found")


def _read_stream_options(values: Values) -> None:
    options = values.get("stream_options")
    if options is None:
        return
    if not values.get("stream"):
        raise ApiError(400, "stream_options means nothing without stream: true", "stream_options")
    for name, value in options.items():
        if name not in STREAM_OPTIONS:
            values.ignore(f"stream_options.{name}", "means nothing here")
        elif value is not None and type(value) is not bool:
            raise ApiError(
                400, f"{name} of stream_options must be true or false, got {show(value)}", "stream_options"
            )
