"""Live events: one encoded log for each job that is being read, a cursor for each reader, one wake-up for all.

A queue for each reader would encode, copy and wake once for each of them and each event; this does it once for all.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from typing import Literal, assert_never

from gateway.jobs.archive import EventLog
from gateway.jobs.batches import Batch
from gateway.jobs.repository import SqlRepository, Written

KEPT_BYTES = 4 * 1024 * 1024
"""Of a job's newest events, kept while it is read; who is further behind reads them from where they are kept."""

Form = Literal["sse", "ndjson", "outcomes"]
"""Server-sent events; a JSON document a line; the same of outcomes alone."""


class Channel:
    """A job that someone reads or waits for."""

    def __init__(self) -> None:
        self.readers = 0
        self._batches: list[Batch] = []
        self._size = 0
        self._known = 0
        """The last event that is known of, here or elsewhere; 0 where that is in doubt."""
        self._woken = asyncio.Event()

    @property
    def woken(self) -> asyncio.Event:
        """Set at the next change. Take it before looking at what it announces."""
        return self._woken

    def tell(self, batch: Batch | None) -> None:
        """Keep a batch that was added here, and wake all that wait."""
        if batch is not None and batch.last > (self._batches[-1].last if self._batches else 0):
            if self._batches and self._batches[-1].last + 1 != batch.first:
                self._batches, self._size = [], 0
            self._batches.append(batch)
            self._size += len(batch.lines)
            while self._size > KEPT_BYTES and len(self._batches) > 1:
                self._size -= len(self._batches.pop(0).lines)
            self._known = max(self._known, batch.last)
        self._wake()

    def hear(self, last: int | None) -> None:
        """Another gateway has added events up to this id, or (None) may have added some; wake all that wait."""
        if last is None:
            self._batches, self._size, self._known = [], 0, 0
        else:
            self._known = max(self._known, last)
        self._wake()

    def _wake(self) -> None:
        woken, self._woken = self._woken, asyncio.Event()
        woken.set()

    def after(self, cursor: int) -> Sequence[Batch] | None:
        """Batches after a cursor, none if there are none; None where they are not here."""
        if 0 < self._known <= cursor:
            return ()
        if not self._batches or self._batches[0].first > cursor + 1:
            return None
        start = bisect_right(self._batches, cursor, key=lambda batch: batch.last)
        return [batch.after(cursor) for batch in self._batches[start:]] or None


class Feed:
    """All channels. A channel exists while it has readers."""

    def __init__(self, repository: SqlRepository, log: EventLog) -> None:
        self._repository = repository
        self._log = log
        self._channels: dict[str, Channel] = {}
        self.closing = False
        """Whether readers and those who wait are sent away with what they have."""
        repository.listen(self._publish)

    def _publish(self, written: Written) -> None:
        channel = self._channels.get(written.job.id)
        if channel is not None:
            channel.tell(written.batch)

    @property
    def jobs(self) -> tuple[str, ...]:
        """Those that someone reads or waits for."""
        return tuple(self._channels)

    def hear(self, job: str, last: int | None) -> None:
        """Another gateway has written about a job, up to this event; None: it may have written."""
        channel = self._channels.get(job)
        if channel is not None:
            channel.hear(last)

    def close(self) -> None:
        """The gateway ends: every stream ends, every waiting request is answered; all of them go on at the next one."""
        self.closing = True
        for channel in self._channels.values():
            channel.tell(None)

    def join(self, job: str) -> Channel:
        """Read or wait for a job; `leave` must follow."""
        channel = self._channels.setdefault(job, Channel())
        channel.readers += 1
        return channel

    def leave(self, job: str) -> None:
        """The reader has gone."""
        channel = self._channels[job]
        channel.readers -= 1
        if not channel.readers:
            del self._channels[job]

    async def read(self, job: str, after: int, form: Form) -> AsyncIterator[bytes]:
        """The events after an id, as they come, until the job's last; in constant memory however slow the reader is."""
        channel = self.join(job)
        try:
            while not self.closing:
                woken = channel.woken
                before = after
                async for batch in self._after(channel, job, after):
                    after = batch.last
                    encoded = _encoded(batch, form)
                    if encoded:
                        yield encoded
                    if batch.ends:
                        return
                if after == before:
                    if await self._over(job, after) or self.closing:
                        return
                    await woken.wait()
        finally:
            self.leave(job)

    async def _after(self, channel: Channel, job: str, cursor: int) -> AsyncIterator[Batch]:
        kept = channel.after(cursor)
        if kept is None:
            async for batch in self._log.read(job, cursor):
                yield batch
        for batch in kept or ():
            yield batch

    async def _over(self, job: str, after: int) -> bool:
        """Whether the reader has had all that will ever come."""
        current = await self._repository.current(job)
        return current is None or (current[0].state.terminal and after >= current[0].last_event)


def _encoded(batch: Batch, form: Form) -> bytes:
    match form:
        case "sse":
            return batch.sse
        case "ndjson":
            return batch.lines
        case "outcomes":
            return batch.outcomes
        case _:
            assert_never(form)
