"""Reads request bodies: bounded while they arrive, and of the declared media type."""

from collections.abc import AsyncIterator
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel

from flaregate_wire.problems import Code
from gateway.jobs.errors import Refusal, TooLarge

Model = TypeVar("Model", bound=BaseModel)
SMALL = 1024 * 1024
"""Bytes of a control message."""


class WrongMediaType(Refusal):
    code = Code.UNSUPPORTED_MEDIA_TYPE


async def bounded(request: Request, limit: int, name: str) -> bytes:
    """The whole body. Raises TooLarge, naming the limit, as soon as it is over it."""
    body = bytearray()
    async for piece in pieces(request, limit, name):
        body += piece
    return bytes(body)


async def pieces(request: Request, limit: int, name: str) -> AsyncIterator[bytes]:
    """The body as it arrives, in constant memory."""
    announced = request.headers.get("content-length", "")
    total = int(announced) if announced.isdigit() else 0
    if total > limit:
        raise TooLarge(f"{total} bytes; the limit {name} is {limit} bytes")
    total = 0
    async for piece in request.stream():
        total += len(piece)
        if total > limit:
            raise TooLarge(f"more than {limit} bytes, which is the limit {name}")
        yield piece


async def json_body(request: Request, limit: int, name: str) -> bytes:
    """A JSON body, not yet looked into."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise WrongMediaType(f"the body is {media_type or 'of no declared type'}; send application/json")
    return await bounded(request, limit, name)


async def read(request: Request, model: type[Model], limit: int = SMALL, name: str = "control_message") -> Model:
    """A JSON body as a model; a mistake is answered with 422 and its place."""
    return model.model_validate_json(await json_body(request, limit, name))
