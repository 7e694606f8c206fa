"""The cache's index in an SQL database: its objects, their shelves, who made them, when they were used."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from flaregate_wire.attempts import CacheObject
from flaregate_wire.model import rfc3339
from gateway.jobs import tables as t
from gateway.jobs.database import Database

T = TypeVar("T")
_AT_ONCE = 1000
"""Values in one statement."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A trust scope: nothing is read or written beyond it."""

    tenant: str
    project: str


@dataclass(frozen=True, slots=True)
class Shelved:
    """A segment on one of its shelves."""

    shelf: str
    object: CacheObject
    job: str


class CacheIndex:
    """Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(
        self,
        scope: Scope,
        attempt: tuple[str, str],
        objects: Collection[CacheObject],
        shelves: Collection[tuple[str, str]],
        now: datetime,
    ) -> None:
        """Add what an attempt (job, id) has written, and the (shelf, key) of its segments; repeating is harmless."""
        job, maker = attempt
        owner = {"tenant": scope.tenant, "project": scope.project, "job": job, "attempt": maker}
        times = {"created": rfc3339(now), "used": rfc3339(now)}

        def work(connection: Connection) -> None:
            ids = _ids(connection, [item.key for item in objects])
            new = {item.key: {**item.model_dump(), **owner, **times} for item in objects if item.key not in ids}
            if new:
                connection.execute(insert(t.cache_objects), list(new.values()))
            ids = _ids(connection, {key for _, key in shelves})
            there = select(t.cache_shelves.c.shelf, t.cache_shelves.c.object)
            known = connection.execute(there.where(t.cache_shelves.c.object.in_(ids.values()))).all()
            wanted = {(shelf, ids[key]) for shelf, key in shelves} - {(row.shelf, row.object) for row in known}
            if wanted:
                at = {"tenant": scope.tenant, "project": scope.project}
                connection.execute(
                    insert(t.cache_shelves), [{"shelf": s, "object": o, **at} for s, o in sorted(wanted)]
                )

        await self._database.write(work)

    async def segments(self, scope: Scope, shelves: Collection[str], now: datetime) -> tuple[Shelved, ...]:
        """What is on these shelves, oldest first; it is used now."""
        o, s = t.cache_objects.c, t.cache_shelves.c
        query: Select[Any] = (
            select(s.shelf, o.id, o.key, o.size, o.sha256, o.job)
            .join_from(t.cache_shelves, t.cache_objects, s.object == o.id)
            .where(s.tenant == scope.tenant, s.project == scope.project, s.shelf.in_(shelves))
            .order_by(o.id)
        )

        def work(connection: Connection) -> tuple[Shelved, ...]:
            rows = connection.execute(query).all()
            _use(connection, {row.id for row in rows}, now)
            return tuple(Shelved(row.shelf, _object(row), row.job) for row in rows)

        return await self._database.write(work)

    async def known(self, scope: Scope, keys: Collection[str], now: datetime) -> tuple[str, ...]:
        """Those of the keys that are in this scope's cache; they are used now."""
        o = t.cache_objects.c
        query = select(o.id, o.key).where(o.tenant == scope.tenant, o.project == scope.project, o.key.in_(keys))

        def work(connection: Connection) -> tuple[str, ...]:
            rows = connection.execute(query).all()
            _use(connection, {row.id for row in rows}, now)
            return tuple(row.key for row in rows)

        return await self._database.write(work)

    async def forget(self, tenant: str, job: str) -> tuple[CacheObject, ...]:
        """Take out all that a job's attempts have made; gives it."""
        o = t.cache_objects.c
        query: Select[Any] = select(o.id, o.key, o.size, o.sha256).where(o.tenant == tenant, o.job == job)
        return await self._database.write(lambda connection: _removed(connection, connection.execute(query).all()))

    async def overflow(
        self, limit: int, before: datetime | None = None, *, dry_run: bool = False
    ) -> tuple[CacheObject, ...]:
        """Take out what was not used since, and what was not for longest until `limit` bytes are left; gives it."""
        o = t.cache_objects.c
        query: Select[Any] = select(o.id, o.key, o.size, o.sha256, o.used).order_by(o.used, o.id)
        since = "" if before is None else rfc3339(before)

        def work(connection: Connection) -> tuple[CacheObject, ...]:
            over = (connection.execute(select(func.sum(o.size))).scalar() or 0) - limit
            found: list[Row[Any]] = []
            for row in connection.execute(query) if over > 0 or since else ():
                if over <= 0 and row.used >= since:
                    break
                found.append(row)
                over -= row.size
            return tuple(map(_object, found)) if dry_run else _removed(connection, found)

        return await self._database.write(work)


def _object(row: Row[Any]) -> CacheObject:
    return CacheObject(key=row.key, size=row.size, sha256=row.sha256)


def _parts(values: Collection[T]) -> Iterator[list[T]]:
    """As many at once as one statement takes."""
    listed = list(values)
    return (listed[start : start + _AT_ONCE] for start in range(0, len(listed), _AT_ONCE))


def _ids(connection: Connection, keys: Collection[str]) -> dict[str, int]:
    o = t.cache_objects.c
    query = select(o.key, o.id)
    return {row.key: row.id for part in _parts(keys) for row in connection.execute(query.where(o.key.in_(part)))}


def _use(connection: Connection, ids: Collection[int], now: datetime) -> None:
    for part in _parts(ids):
        connection.execute(update(t.cache_objects).where(t.cache_objects.c.id.in_(part)).values(used=rfc3339(now)))


def _removed(connection: Connection, rows: Sequence[Row[Any]]) -> tuple[CacheObject, ...]:
    for part in _parts([row.id for row in rows]):
        connection.execute(delete(t.cache_objects).where(t.cache_objects.c.id.in_(part)))
    return tuple(_object(row) for row in rows)
