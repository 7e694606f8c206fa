"""Reads a job's log from its segments in the store: in the order in which they came, from any byte on."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial

from gateway.jobs.feed import Feed
from gateway.jobs.log_index import Cursor, LogFilter, LogIndex, Page
from gateway.jobs.log_pieces import LogPiece, of_cell
from gateway.jobs.records import JobRecord, Segment
from gateway.jobs.repository import SqlRepository
from gateway.stores.base import ObjectMissing, Store

PIECE_BYTES = 64 * 1024
"""Sent at once."""
TAIL_BYTES = 16 * 1024 * 1024
"""At most so much is searched for the last lines; a line that is longer has lost its beginning."""
SHOWN_BYTES = 64 * 1024
"""The same where a job's view shows them."""
READ_BYTES = 256 * 1024
"""Read and held at once for each reader."""
_FIRST_BLOCK = 64 * 1024
"""Read first on the way back from the end: enough for a few lines."""
LOST = b"?"
"""In the place of bytes that a container announced and the store has not, so that no offset ever moves."""


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What of a job's log is wanted, in bytes of the text that its filter leaves."""

    wanted: LogFilter = field(default_factory=LogFilter)
    after: int = 0
    tail: int | None = None
    """Only the last lines."""
    follow: bool = False
    cell: int | None = None
    """Only the lines of one cell of a sweep."""


@dataclass(frozen=True, slots=True)
class OpenedLog:
    """A log about to be read."""

    start: int
    """Where it begins, in bytes of the text that the filter leaves."""
    size: int | None
    """How long that text is, where the job has ended and it is known without reading."""
    complete: bool
    """Whether the job has ended, so that nothing will come after the last byte."""
    read: Callable[[int, int | None], AsyncIterator[LogPiece]]
    """The pieces between two offsets."""


class LogReader:
    """Logs of jobs: the database has the index, the store the bytes."""

    def __init__(self, repository: SqlRepository, store: Store, feed: Feed) -> None:
        self._repository = repository
        self._store = store
        self._feed = feed

    @property
    def _index(self) -> LogIndex:
        return self._repository.logs

    async def open(self, job: JobRecord, query: LogQuery) -> OpenedLog:
        """Find out where to begin, and what is known of the end. `job` is as it was before the index was asked."""
        complete = job.state.terminal
        wanted, cell = query.wanted, query.cell

        def read(start: int, stop: int | None) -> AsyncIterator[LogPiece]:
            return self._read(job.id, wanted, start, stop, follow=query.follow and not complete)

        if cell is not None:
            cells = partial(of_cell, cell=cell, complete=complete or query.follow)
            return OpenedLog(query.after, None, complete, lambda start, _: cells(read(0, None), start=start))
        start = query.after
        if query.tail is not None:
            start = await self._start_of_last(job.id, wanted, query.tail, TAIL_BYTES)
        return OpenedLog(start, await self._index.size(job.id, wanted) if complete else None, complete, read)

    async def _read(
        self, job: str, wanted: LogFilter, start: int, stop: int | None, *, follow: bool
    ) -> AsyncIterator[LogPiece]:
        channel = self._feed.join(job)
        try:
            cursor = await self._index.seek(job, wanted, start)
            while True:
                woken = channel.woken
                going_on = follow and await self._live(job)
                while page := await self._index.behind(job, wanted, cursor.number):
                    for number, segment in page:
                        async for piece in self._part(segment, cursor.offset, start, stop):
                            yield piece
                        cursor = Cursor(number, cursor.offset + segment.size)
                        if (stop is not None and cursor.offset >= stop) or (follow and self._feed.closing):
                            return
                if not going_on or self._feed.closing:
                    return
                await woken.wait()
        finally:
            self._feed.leave(job)

    async def _live(self, job: str) -> bool:
        current = await self._repository.current(job)
        return current is not None and not current[0].state.terminal

    async def _part(self, segment: Segment, begin: int, start: int, stop: int | None) -> AsyncIterator[LogPiece]:
        """What lies between two offsets of a segment that begins at `begin`; always as long as was announced."""
        at = max(start - begin, 0)
        end = segment.size if stop is None else min(segment.size, stop - begin)
        while at < end:
            block = await self._block(segment.key, at, min(at + READ_BYTES, end))
            for place in range(0, len(block), PIECE_BYTES):
                data = block[place : place + PIECE_BYTES]
                at += len(data)
                yield LogPiece(begin + at - len(data), segment.attempt, segment.index, data, last=at >= end)

    async def _block(self, key: str, start: int, stop: int) -> bytes:
        """Read whole, so that no connection to the store waits for a slow reader."""
        try:
            data = b"".join([part async for part in self._store.get(key, start=start, stop=stop)])
        except ObjectMissing:
            data = b""
        return data + LOST * (stop - start - len(data))

    async def _start_of_last(self, job: str, wanted: LogFilter, lines: int, most: int) -> int:
        """Where the last lines begin, found from the end."""
        page = await self._index.before(job, wanted, None)
        end = start = await self._index.size(job, wanted, page[0][0]) if page else 0
        if not lines:
            return end
        left = lines
        async for start, data in self._backwards(job, wanted, page, end, max(0, end - most)):
            left, found = _lines_back(data, left, at_end=start + len(data) == end)
            if found is not None:
                return start + found
        return start

    async def _backwards(
        self, job: str, wanted: LogFilter, page: Page, end: int, floor: int
    ) -> AsyncIterator[tuple[int, bytes]]:
        """Blocks of the text, each with its offset, from the end down to a floor: small ones first."""
        size = _FIRST_BLOCK
        while page:
            for _, segment in page:
                begin = end - segment.size
                while end > max(begin, floor):
                    start = max(begin, floor, end - size)
                    yield start, await self._block(segment.key, start - begin, end - begin)
                    end, size = start, min(2 * size, READ_BYTES)
                if end <= floor:
                    return
            page = await self._index.before(job, wanted, page[-1][0])

    async def last_lines(self, job: str, lines: int) -> tuple[str, ...]:
        """The last lines that the heads printed, of a job that is not being written any more."""
        wanted = LogFilter(role="head")
        start = await self._start_of_last(job, wanted, lines, SHOWN_BYTES)
        text = b"".join([piece.data async for piece in self._read(job, wanted, start, None, follow=False)])
        return tuple(text.decode(errors="replace").removesuffix("\n").split("\n")) if text else ()


def _lines_back(data: bytes, left: int, *, at_end: bool) -> tuple[int, int | None]:
    """How many lines are still missing before this block, and where in it the first of the last ones begins."""
    stop = len(data) - (at_end and data.endswith(b"\n"))
    while left and (stop := data.rfind(b"\n", 0, stop)) >= 0:
        left -= 1
        if not left:
            return 0, stop + 1
    return left, None
