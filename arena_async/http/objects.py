"""One object of a service: requested and decoded."""

from __future__ import annotations

from typing import TypeVar

from arena_async.http.session import Session
from arena_async.protocol.decoding import decode, parse_json
from arena_async.protocol.messages import Request

__all__ = ["request_object"]

T = TypeVar("T")


async def request_object(session: Session, request: Request, model: type[T]) -> T:
    """
    Return one object. One request.

    Raises:
        ApiError: The service responded with an error.
        DecodeError: The response is something else.
    """
    response = await session.send(request)
    return decode(parse_json(response.body, request=request.line), model, request=request.line)
