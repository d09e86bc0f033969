"""Errors as OpenAI's clients expect them: a status, and a JSON object that names the field."""

from typing import Any

from nextok.errors import NextokError

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    500: "server_error",
    503: "overloaded_error",
}
"""The `type` of an error, for each status."""


class ApiError(Exception):
    """What a client is told: a status, one line, and the field that it is about."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code

    @property
    def headers(self) -> dict[str, str]:
        """The headers that belong to the status."""
        return {"Retry-After": "1"} if self.status == 503 else {}

    def to_json(self) -> dict[str, Any]:
        """OpenAI's form."""
        kind = KINDS.get(self.status, "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def explain(error: BaseException) -> ApiError:
    """What a client is told of an exception: a mistake of the caller is a 400, anything else says no more."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ValueError | NextokError):
        return ApiError(400, " ".join(str(error).split())[:2000])
    return ApiError(500, "the server failed to answer this request; its log says why")
