"""Reads a job's log from its segments in the store, in constant memory, in the order in which they were announced."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from gateway.jobs.feed import Feed
from gateway.jobs.records import Segment
from gateway.jobs.repository import SqlRepository
from gateway.stores.base import Store

TAIL_BYTES = 64 * 1024 * 1024
"""At most so much is searched for the last lines."""


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which containers' output is wanted."""

    index: int | None = None
    role: Literal["head", "worker"] | None = None
    attempt: int | None = None

    def takes(self, segment: Segment) -> bool:
        """Whether a segment is wanted."""
        return (
            self.index in (None, segment.index)
            and self.attempt in (None, segment.attempt)
            and (self.role is None or (self.role == "head") == (segment.index == 0))
        )


class LogReader:
    """Logs of jobs: the database has the index, the store the bytes."""

    def __init__(self, repository: SqlRepository, store: Store, feed: Feed) -> None:
        self._repository = repository
        self._store = store
        self._feed = feed

    async def read(self, job: str, wanted: LogFilter, tail: int | None, *, follow: bool) -> AsyncIterator[bytes]:
        """The log, or its last lines; with `follow`, also what comes until the job ends."""
        channel = self._feed.join(job)
        try:
            seen = 0
            if tail is not None:
                last, seen = await self._tail(job, wanted, tail)
                yield last
            while True:
                woken = channel.woken
                current = await self._repository.current(job)
                for number, segment in await self._repository.segments(job, seen):
                    seen = number
                    if wanted.takes(segment):
                        async for piece in self._store.get(segment.key):
                            yield piece
                if not follow or current is None or current[0].state.terminal:
                    return
                await woken.wait()
        finally:
            self._feed.leave(job)

    async def _tail(self, job: str, wanted: LogFilter, lines: int) -> tuple[bytes, int]:
        """The last lines, read from the end, and the number of the last segment."""
        segments = await self._repository.segments(job, 0)
        kept: list[bytes] = []
        size = breaks = 0
        for _, segment in reversed([item for item in segments if wanted.takes(item[1])]):
            if breaks > lines or size > TAIL_BYTES or lines == 0:
                break
            part = b"".join([piece async for piece in self._store.get(segment.key)])
            kept.append(part)
            size += len(part)
            breaks += part.count(b"\n")
        text = b"".join(reversed(kept))
        last = b"".join(text.splitlines(keepends=True)[-lines:]) if lines else b""
        return last, segments[-1][0] if segments else 0

    async def last_lines(self, job: str, lines: int) -> tuple[str, ...]:
        """The last lines that the heads printed, of a job that is not being written any more."""
        text, _ = await self._tail(job, LogFilter(role="head"), lines)
        return tuple(text.decode(errors="replace").splitlines())
