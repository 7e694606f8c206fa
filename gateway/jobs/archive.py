"""Events at rest: a job that has ended leaves its batches for one object in the store, and readers find either place.

What is written is the same whoever writes it and however often, so a crash in between loses nothing and leaves nothing.
"""

import asyncio
import logging
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterator

from gateway.jobs.archive_index import Archived, Mark
from gateway.jobs.batches import Batch
from gateway.jobs.repository import SqlRepository, Written
from gateway.stores.base import Store, StoreError

log = logging.getLogger(__name__)
PAGE_BYTES = 1024 * 1024
"""Read, sent and held at once."""
INLINE_BYTES = 64 * 1024
"""Up to here a row of the database is cheaper than an object; docs/adr/0012-events-at-rest.md has the figures."""
AT_ONCE = 2
"""Jobs whose events are being moved."""
_FOUND = 100
_EVERY = 300.0
"""Seconds between searches for jobs that others have left: gateways that were killed, and older ones."""


class EventLog:
    """The events of jobs, wherever they are."""

    def __init__(self, repository: SqlRepository, store: Store) -> None:
        self._repository = repository
        self._store = store

    async def read(self, job: str, after: int) -> AsyncIterator[Batch]:
        """The events after an id that there are now, in pages."""
        async for batch in rows(self._repository, job, after):
            after = batch.last
            yield batch
        archived = await self._repository.archives.of(job)  # rows that have gone meanwhile are here
        if archived is None:
            return
        async for batch in self._at_rest(archived, after):
            yield batch

    async def _at_rest(self, archived: Archived, after: int) -> AsyncIterator[Batch]:
        if archived.key is None:
            whole = _batch(1, archived.lines)
            if after < whole.last:
                yield whole.after(after)
            return
        marks = archived.marks
        for place in range(max(0, bisect_right(marks, after + 1, key=lambda mark: mark[0]) - 1), len(marks)):
            first, start = marks[place]
            stop = marks[place + 1][1] if place + 1 < len(marks) else None
            # a whole page, and no connection to the store is held while a slow reader takes it
            page = _batch(
                first, b"".join([piece async for piece in self._store.get(archived.key, start=start, stop=stop)])
            )
            if after < page.last:
                yield page.after(after)


class Archiver:
    """Moves the events of jobs that have ended. `run` does it until it is cancelled."""

    def __init__(self, repository: SqlRepository, store: Store, inline: int = INLINE_BYTES) -> None:
        self._repository = repository
        self._store = store
        self._inline = inline
        self._ended = asyncio.Event()
        self._places = asyncio.Semaphore(AT_ONCE)
        repository.listen(self._told)

    def _told(self, written: Written) -> None:
        if written.job.state.terminal:
            self._ended.set()

    async def run(self) -> None:
        """Move what there is, and again when a job ends."""
        while True:
            self._ended.clear()
            try:
                await self.move_all()
            except Exception:  # the events are safe where they are, and the next round tries again
                log.exception("jobs that have ended could not be looked for")
            try:
                async with asyncio.timeout(_EVERY):
                    await self._ended.wait()
            except TimeoutError:
                continue

    async def move_all(self) -> None:
        """Move the events of every job that has ended, each tried once."""
        tried: set[str] = set()
        while found := set(await self._repository.archives.pending(_FOUND + len(tried))) - tried:
            tried |= found
            await asyncio.gather(*map(self._try, found))

    async def _try(self, job: str) -> None:
        async with self._places:
            try:
                await self.move(job)
            except StoreError as error:
                log.warning("the events of %s stay in the database for now: %s", job, error)
            except Exception:  # one job's fault must not stop the others
                log.exception("the events of %s could not be moved", job)

    async def move(self, job: str) -> None:
        """Move the events of one job that has ended."""
        current = await self._repository.current(job)
        if current is None:
            return
        if (lines := await self._few(job)) is not None:
            await self._repository.archives.keep(job, Archived(lines))
            return
        key = f"tenants/{current[0].tenant}/jobs/{job}/events.ndjson"
        marks: list[Mark] = []
        await self._store.put(key, self._pieces(job, marks))
        if not await self._repository.archives.keep(job, Archived(key=key, marks=tuple(marks))):
            await self._store.delete(key)

    async def _few(self, job: str) -> bytes | None:
        """All lines, where they are few."""
        found = await self._repository.events(job, 0, self._inline + 1)
        lines = b"".join(batch.lines for batch in found)
        return lines if found and found[-1].ends and len(lines) <= self._inline else None

    async def _pieces(self, job: str, marks: list[Mark]) -> AsyncIterator[bytes]:
        """The object's bytes; its marks are complete with the last of them."""
        size = 0
        last = None
        async for batch in rows(self._repository, job, 0):
            for part in _cut(batch):
                if not marks or size + len(part.lines) > marks[-1][1] + PAGE_BYTES:
                    marks.append((part.first, size))
                size += len(part.lines)
                yield part.lines
            last = batch
        if last is None or not last.ends:
            raise RuntimeError(f"the events of {job} have no end")


async def rows(repository: SqlRepository, job: str, after: int) -> AsyncIterator[Batch]:
    """The events after an id that are rows of the database."""
    while found := await repository.events(job, after, PAGE_BYTES):
        for batch in found:
            after = batch.last
            yield batch


def _batch(first: int, lines: bytes) -> Batch:
    return Batch(first, first + lines.count(b"\n") - 1, lines)


def _cut(batch: Batch) -> Iterator[Batch]:
    """In parts of a page at most; a line is never longer."""
    first, start = batch.first, 0
    while start < len(batch.lines):
        stop = batch.lines.rfind(b"\n", start, start + PAGE_BYTES) + 1
        part = _batch(first, batch.lines[start:stop])
        yield part
        first, start = part.last + 1, stop
