"""Which jobs this gateway works at. It holds each for a while and renews that; a gateway that is gone loses them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, or_, select, update

from flaregate_wire.model import rfc3339
from gateway.jobs import tables as t
from gateway.jobs.database import Database

FIRST = 1
"""The fence of who takes a job in. It grows with each new holder."""
AT_ONCE = 100
"""Jobs that are taken over in one statement: other gateways want some too."""
_TERM, _AGING, _OLD, _SKEW, _PACE = 0.6, 0.45, 0.2, 0.2, 0.1
"""Shares of the seconds in which others are to have the jobs of a gateway that is gone: for so long a job is held; with
so much left it is renewed; with so little left the platform is asked for nothing; so much later others take it, for
their clocks may differ; and so often they look."""


class Overtaken(Exception):
    """Another gateway holds the job; what this one wanted to write is not written."""


@dataclass(frozen=True, slots=True)
class _Hold:
    fence: int
    until: datetime


class Holding:
    """The jobs that one gateway holds, as it knows of them; the database has the last word.

    Two gateways never have the same name at once. One that comes back with its name has its own jobs back at once.
    """

    def __init__(self, database: Database, name: str, seconds: float) -> None:
        self._database = database
        self._name = name
        self._seconds = seconds
        self._held: dict[str, _Hold] = {}
        self._claim_at = datetime.min.replace(tzinfo=UTC)
        self._returning = True

    def __contains__(self, job: str) -> bool:
        return job in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._held))

    def __len__(self) -> int:
        return len(self._held)

    @property
    def name(self) -> str:
        """Of this gateway."""
        return self._name

    @property
    def pace(self) -> float:
        """Seconds between looks for jobs that nobody holds."""
        return self._seconds * _PACE

    def columns(self, now: datetime) -> dict[str, Any]:
        """Of the row of a job that is taken in."""
        return {"holder": self._name, "held_until": rfc3339(self._until(now)), "fence": FIRST}

    def made(self, job: str, now: datetime) -> None:
        """A job was taken in, and is held."""
        self._held[job] = _Hold(FIRST, self._until(now))

    def fence(self, job: str) -> int:
        """What a change of a job's has to show. Raises Overtaken."""
        hold = self._held.get(job)
        if hold is None:
            raise Overtaken(job)
        return hold.fence

    def young(self, job: str, now: datetime) -> bool:
        """Whether no other gateway can have the job before what is asked of the platform now has begun."""
        hold = self._held.get(job)
        return hold is not None and hold.until - now > timedelta(seconds=self._seconds * _OLD)

    def drop(self, job: str, fence: int | None = None) -> None:
        """It has ended, or another gateway has it, as one with this fence was told; a later fence stays."""
        if job in self._held and fence in (None, self._held[job].fence):
            del self._held[job]

    async def keep(self, now: datetime) -> None:
        """Renew what is held and take what nobody holds, each in one statement and only when it is time to."""
        aging = timedelta(seconds=self._seconds * _AGING)
        if any(hold.until - now < aging for hold in self._held.values()):
            await self.renew(now)
        if self._returning:
            await self.claim(now, own=True)
            self._returning = False
        if now >= self._claim_at:
            taken = await self.claim(now)
            self._claim_at = now if taken == AT_ONCE else now + timedelta(seconds=self.pace)

    async def renew(self, now: datetime) -> None:
        """Hold what is held for longer; what others have taken over meanwhile is dropped."""
        j, until = t.jobs.c, self._until(now)
        query = update(t.jobs).where(j.active.is_(True), j.holder == self._name).values(held_until=rfc3339(until))

        def done(kept: dict[str, int]) -> None:
            younger = {job: hold for job, hold in self._held.items() if hold.until >= until}  # taken in meanwhile
            self._held = {job: _Hold(fence, until) for job, fence in kept.items()} | younger

        def work(connection: Connection) -> dict[str, int]:
            return {row.id: row.fence for row in connection.execute(query.returning(j.id, j.fence))}

        await self._database.write(work, done)

    async def claim(self, now: datetime, *, own: bool = False) -> int:
        """Take over the oldest jobs that nobody holds, or all that are held by this name; gives how many."""
        j, until, late = t.jobs.c, self._until(now), rfc3339(now - timedelta(seconds=self._seconds * _SKEW))
        free = j.holder == self._name if own else or_(j.holder.is_(None), j.held_until < late)
        found = select(j.id).where(j.active.is_(True), free).order_by(j.id).with_for_update(skip_locked=True)
        some = (found if own else found.limit(AT_ONCE)).cte("found")
        values = {"holder": self._name, "held_until": rfc3339(until), "fence": j.fence + 1}
        query = update(t.jobs).where(j.id.in_(select(some.c.id))).values(values).returning(j.id, j.fence)

        def done(taken: dict[str, int]) -> None:
            self._held |= {job: _Hold(fence, until) for job, fence in taken.items()}

        def work(connection: Connection) -> dict[str, int]:
            return {row.id: row.fence for row in connection.execute(query)}

        taken = await self._database.write(work, done)
        return len(taken)

    async def release(self) -> None:
        """Give all up, for others to take at once."""
        j = t.jobs.c
        query = update(t.jobs).where(j.active.is_(True), j.holder == self._name).values(holder=None, held_until=None)

        def work(connection: Connection) -> None:
            connection.execute(query)

        await self._database.write(work)
        self._held.clear()

    def _until(self, now: datetime) -> datetime:
        return now + timedelta(seconds=self._seconds * _TERM)
