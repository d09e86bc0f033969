"""A client may leave at any moment: then there is no one to answer, and the work for it ends."""

import asyncio
from typing import Any, TypeVar

from starlette.types import Receive

T = TypeVar("T")


class ClientLeftError(Exception):
    """The client has closed its connection, or reads no more: there is no one to answer."""


async def stay(receive: Receive, work: "asyncio.Future[T]") -> T:
    """The result of the work; ClientLeftError, and the work cancelled, if the client leaves before."""
    leaving = asyncio.ensure_future(_wait_until_left(receive))
    try:
        both: set[asyncio.Future[Any]] = {work, leaving}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientLeftError
        return work.result()
    finally:
        leaving.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait({work})  # what it works on is free for its caller again


async def _wait_until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
