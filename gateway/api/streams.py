"""Streams that stay alive, and end when they are old; a resumed one goes on with the very next byte."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

HEARTBEAT = b": still here\n\n"
RECONNECT = b"event: reconnect\ndata: {}\n\n"


@dataclass(frozen=True, slots=True)
class Pace:
    """When a stream speaks for itself."""

    heartbeat: float
    """Seconds of silence before a comment."""
    age: float
    """Seconds after which the client is asked to resume: platforms cut long requests anyway."""


async def paced(chunks: AsyncIterator[bytes], pace: Pace, *, sse: bool) -> AsyncIterator[bytes]:
    """The chunks, with comments in silences (server-sent events only) and an end when the stream is old."""
    loop = asyncio.get_running_loop()
    end = loop.time() + pace.age
    coming: asyncio.Task[bytes] = asyncio.ensure_future(_next(chunks))
    if sse:
        yield HEARTBEAT
    try:
        while (left := end - loop.time()) > 0:
            done, _ = await asyncio.wait({coming}, timeout=min(pace.heartbeat, left))
            if not done:
                if sse:
                    yield HEARTBEAT
                continue
            try:
                chunk = coming.result()
            except StopAsyncIteration:
                return
            coming = asyncio.ensure_future(_next(chunks))
            yield chunk
        if sse:
            yield RECONNECT
    finally:
        coming.cancel()
        with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
            await coming


async def _next(chunks: AsyncIterator[bytes]) -> bytes:
    return await anext(chunks)
