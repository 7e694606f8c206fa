"""Where the events of jobs that have ended are: few in a row of their own, many in an object of the store."""

import json
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from gateway.jobs import tables as t
from gateway.jobs.database import Database

Mark = tuple[int, int]
"""An event's id, and where in the object its line begins."""


@dataclass(frozen=True, slots=True)
class Archived:
    """A job's events at rest: `lines`, or an object and the marks at which its pages begin."""

    lines: bytes = b""
    key: str | None = None
    marks: tuple[Mark, ...] = ()


class ArchiveIndex:
    """Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pending(self, limit: int) -> tuple[str, ...]:
        """Jobs that have ended and whose events are still rows as they came."""
        batch, job = t.event_batches.c.job, t.jobs.c
        query = select(batch).join(t.jobs, job.id == batch).where(job.active.is_(False)).distinct().limit(limit)
        return await self._database.read(lambda connection: tuple(connection.execute(query).scalars()))

    async def of(self, job: str) -> Archived | None:
        """A job's events at rest; None while they are rows, and where there is no such job."""
        c = t.event_archives.c
        query = select(c.lines, c.key, c.marks).where(c.job == job)
        row = await self._database.read(lambda connection: connection.execute(query).first())
        if row is None:
            return None
        marks = tuple((first, offset) for first, offset in json.loads(row.marks or "[]"))
        return Archived(bytes(row.lines or b""), row.key, marks)

    async def keep(self, job: str, archived: Archived) -> bool:
        """Put what is at rest in the place of the rows; False where the job has been removed. Repeating is harmless."""
        c = t.event_archives.c

        def work(connection: Connection) -> bool:
            ended = select(t.jobs.c.tenant).where(t.jobs.c.id == job, t.jobs.c.active.is_(False)).with_for_update()
            tenant = connection.execute(ended).scalar()
            if tenant is None:
                return False
            connection.execute(delete(t.event_batches).where(t.event_batches.c.job == job))
            if connection.execute(select(c.job).where(c.job == job)).first() is None:
                marks = json.dumps(archived.marks) if archived.key else None
                row = {"job": job, "tenant": tenant, "key": archived.key, "marks": marks}
                connection.execute(insert(t.event_archives), row | {"lines": archived.lines or None})
            return True

        return await self._database.write(work)
