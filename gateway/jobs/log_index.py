"""The index of logs in an SQL database: pieces of containers' output in the order in which they came, in pages."""

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, Select, func, select

from gateway.jobs import tables as t
from gateway.jobs.database import Database
from gateway.jobs.records import Segment

PAGE = 500
"""Segments that are known at once."""
Page = tuple[tuple[int, Segment], ...]
"""Segments, each with its number."""


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which containers' output is wanted."""

    index: int | None = None
    role: Literal["head", "worker"] | None = None
    attempt: int | None = None

    def conditions(self, job: str) -> tuple[ColumnElement[bool], ...]:
        """The same for the database."""
        c = t.segments.c
        found: list[ColumnElement[bool]] = [c.job == job]
        if self.index is not None:
            found.append(c.container == self.index)
        if self.attempt is not None:
            found.append(c.attempt == self.attempt)
        if self.role is not None:
            found.append(c.container == 0 if self.role == "head" else c.container > 0)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Behind a segment: its number, and how long the wanted text is until there."""

    number: int = 0
    offset: int = 0


class LogIndex:
    """Each method is one query."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def seek(self, job: str, wanted: LogFilter, offset: int) -> Cursor:
        """Behind the last segment that ends at or before an offset."""
        c = t.segments.c
        total = func.sum(c.size).over(order_by=c.id).label("total")
        running = select(c.id, total).where(*wanted.conditions(job)).subquery()
        query = select(running.c.id, running.c.total).where(running.c.total <= offset)
        row = await self._first(query.order_by(running.c.id.desc()).limit(1))
        return Cursor() if row is None else Cursor(row.id, int(row.total))

    async def size(self, job: str, wanted: LogFilter, until: int | None = None) -> int:
        """Bytes of the wanted text, up to the segment with a number."""
        c = t.segments.c
        query = select(func.coalesce(func.sum(c.size), 0)).where(*wanted.conditions(job))
        row = await self._first(query if until is None else query.where(c.id <= until))
        return 0 if row is None else int(row[0])

    async def behind(self, job: str, wanted: LogFilter, number: int) -> Page:
        """A page of segments that come after one, each with its number."""
        c = t.segments.c
        return await self._page(_segments(job, wanted).where(c.id > number).order_by(c.id))

    async def before(self, job: str, wanted: LogFilter, number: int | None) -> Page:
        """A page of segments that come before one, or of the last; the newest first."""
        c = t.segments.c
        query = _segments(job, wanted).order_by(c.id.desc())
        return await self._page(query if number is None else query.where(c.id < number))

    async def _page(self, query: Select[Any]) -> Page:
        rows = await self._database.read(lambda connection: connection.execute(query.limit(PAGE)).all())
        return tuple((row[0], Segment(*tuple(row)[1:])) for row in rows)

    async def _first(self, query: Select[Any]) -> Row[Any] | None:
        return await self._database.read(lambda connection: connection.execute(query).first())


def _segments(job: str, wanted: LogFilter) -> Select[Any]:
    c = t.segments.c
    return select(c.id, c.attempt, c.container, c.start, c.size, c.key).where(*wanted.conditions(job))
