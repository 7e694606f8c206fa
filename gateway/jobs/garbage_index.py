"""What may go, in an SQL database: jobs whose time is over, blobs that nobody needs, and keys that no row names."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Select, func, or_, select

from flaregate_wire.model import rfc3339
from gateway.jobs import tables as t
from gateway.jobs.database import Database
from gateway.jobs.needs import drop, forget, free, parts
from gateway.jobs.policy import Policy
from gateway.jobs.records import Blob
from gateway.stores.base import Begun


@dataclass(frozen=True, slots=True)
class Expired:
    """A job whose time is over."""

    id: str
    tenant: str


class GarbageIndex:
    """Each method is one transaction. `tenant` None: of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def expired(self, now: datetime, tenant: str | None, limit: int) -> tuple[Expired, ...]:
        """Jobs whose time is over, the oldest first. A job that has not ended has no such time."""
        c = t.jobs.c
        over = (c.expires <= rfc3339(now), c.active.is_(False), *_of(c.tenant, tenant))
        query = select(c.id, c.tenant).where(*over).order_by(c.expires, c.id).limit(limit)
        return await self._database.read(lambda connection: tuple(Expired(*row) for row in connection.execute(query)))

    async def forget(self, job: str) -> tuple[str, ...] | None:
        """Take a job out that has ended; gives the keys of blobs that only it kept. None where there is none."""
        return await self._database.write(lambda connection: forget(connection, job))

    async def leaves(self, job: str, keys: Collection[str]) -> frozenset[str]:
        """Those of the keys that no row would name without the job: it is taken out, and nothing of that is kept."""

        def work(connection: Connection) -> None:
            forget(connection, job)
            raise _Undone(frozenset(keys) - _named(connection, keys))

        try:
            await self._database.write(work)
        except _Undone as undone:
            return undone.keys
        raise AssertionError("unreachable: the work raises")

    async def unused(self, before: datetime, tenant: str | None, limit: int) -> tuple[Blob, ...]:
        """Blobs that no job refers to and that nobody has named since."""
        query = select(t.blobs).where(free(), *_unused(before, tenant)).order_by(t.blobs.c.used).limit(limit)
        return await self._database.read(lambda connection: tuple(Blob(*row) for row in connection.execute(query)))

    async def drop(self, before: datetime, tenant: str | None, limit: int) -> tuple[Blob, ...]:
        """Take such blobs out; gives them."""
        where = _unused(before, tenant)
        return tuple(await self._database.write(lambda connection: drop(connection, *where, limit=limit)))

    async def strangers(self, keys: Collection[str]) -> frozenset[str]:
        """Those of the keys that no row names, and none will: whoever could is not there any more."""
        return await self._database.read(lambda connection: frozenset(keys) - _named(connection, keys))

    async def lost(self, begun: Collection[Begun]) -> tuple[Begun, ...]:
        """Those of the uploads in parts that no row names: whoever began them was killed before it wrote one."""

        def work(connection: Connection) -> tuple[Begun, ...]:
            named: set[str] = set()
            for part in parts({one.upload for one in begun}):
                for column in (t.uploads.c.upload, t.blobs.c.upload):
                    named.update(connection.execute(select(column).where(column.in_(part))).scalars())
            return tuple(one for one in begun if one.upload not in named)

        return await self._database.read(work)

    async def due(self, policy: Policy) -> datetime | None:
        """When the next of it may go that there are rows of, if nothing happens meanwhile."""
        ages: list[tuple[Select[Any], float]] = [
            (select(func.min(t.jobs.c.expires)).where(t.jobs.c.active.is_(False)), 0),
            (select(func.min(t.blobs.c.used)).where(free()), policy.idle),
            (select(func.min(t.uploads.c.begun)), policy.idle),
        ]
        if policy.cache_age is not None:
            ages.append((select(func.min(t.cache_objects.c.used)), policy.cache_age))

        def work(connection: Connection) -> list[datetime]:
            found = [(connection.execute(query).scalar(), age) for query, age in ages]
            return [datetime.fromisoformat(since) + timedelta(seconds=age) for since, age in found if since]

        return min(await self._database.read(work), default=None)


class _Undone(Exception):
    """Carries what would be out of a transaction that is not kept."""

    def __init__(self, keys: frozenset[str]) -> None:
        super().__init__()
        self.keys = keys


def _of(column: ColumnElement[str], tenant: str | None) -> tuple[ColumnElement[bool], ...]:
    return () if tenant is None else (column == tenant,)


def _unused(before: datetime, tenant: str | None) -> tuple[ColumnElement[bool], ...]:
    """What is on its way in parts is given up first."""
    c = t.blobs.c
    return (c.used < rfc3339(before), or_(c.upload.is_(None), c.complete.is_(True)), *_of(c.tenant, tenant))


def _named(connection: Connection, keys: Collection[str]) -> frozenset[str]:
    """Keys that a row has, and those of jobs that may still write one: they run, or their events are being moved."""
    areas = {key: area for key in keys if (area := _area(key))}
    writes = set(_writes(connection, set(areas.values())))
    found = {key for key, area in areas.items() if area in writes}
    for table in (t.blobs, t.artifacts, t.segments, t.event_archives, t.cache_objects, t.uploads):
        for part in parts(set(keys) - found):
            found.update(connection.execute(select(table.c.key).where(table.c.key.in_(part))).scalars())
    return frozenset(found)


_Area = tuple[Literal["jobs", "cache"], str]
"""Where a job writes: what goes with it, and what outlives it."""


def _area(key: str) -> _Area | None:
    """Where it lies; None for what was sent."""
    match key.split("/"):
        case ["tenants", _, "jobs", job, *_]:
            return "jobs", job
        case ["tenants", _, "cache", _, attempt, *_]:
            return "cache", attempt.rpartition("-")[0]
        case _:
            return None


def _writes(connection: Connection, areas: Collection[_Area]) -> Iterator[_Area]:
    """Those of the areas into which somebody still writes."""
    for part in parts({job for _, job in areas}):
        runs = select(t.jobs.c.id).where(t.jobs.c.id.in_(part), t.jobs.c.active.is_(True))
        for job in connection.execute(runs).scalars():
            yield from (("jobs", job), ("cache", job))
        moved = select(t.event_batches.c.job).where(t.event_batches.c.job.in_(part)).distinct()
        yield from (("jobs", job) for job in connection.execute(moved).scalars())
