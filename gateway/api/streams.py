"""Streams that stay alive, and end when they are old; a resumed one goes on with the very next byte."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from flaregate_wire.problems import Code
from gateway.jobs.errors import Refusal

HEARTBEAT = b": still here\n\n"
RECONNECT = b"event: reconnect\ndata: {}\n\n"


@dataclass(frozen=True, slots=True)
class Pace:
    """When a stream speaks for itself, and how many there may be."""

    heartbeat: float
    """Seconds of silence before a comment."""
    age: float
    """Seconds after which the client is asked to resume: platforms cut long requests anyway."""
    most: int = 2000
    """Of one tenant at once."""


class TooManyStreams(Refusal):
    code = Code.TOO_MANY_STREAMS


class Places:
    """How many streams each tenant has open at this gateway."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken: Counter[str] = Counter()

    def take(self, tenant: str) -> None:
        """Raise TooManyStreams where there is no place; `leave` must follow."""
        if self._taken[tenant] >= self.most:
            raise TooManyStreams(f"{self.most} streams are open; the limit streams is {self.most} for each tenant")
        self._taken[tenant] += 1

    def leave(self, tenant: str) -> None:
        """The stream has ended."""
        self._taken[tenant] -= 1
        if not self._taken[tenant]:
            del self._taken[tenant]


class Stream(StreamingResponse):
    """An answer that has a place until it has ended, however it does."""

    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        places: Places,
        tenant: str,
        media_type: str,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(chunks, media_type=media_type, headers=headers)
        self._chunks, self._places, self._tenant = chunks, places, tenant
        places.take(tenant)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with contextlib.aclosing(self._chunks):  # at once, not when someone collects what a client left
                await super().__call__(scope, receive, send)
        finally:
            self._places.leave(self._tenant)


async def paced(chunks: AsyncIterator[bytes], pace: Pace, *, sse: bool) -> AsyncGenerator[bytes, None]:
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
