"""Who may write an object that must not exist yet, where the store does not decide it: one row a key, for a moment."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, insert, select

from flaregate_wire.model import rfc3339
from gateway.jobs import tables as t
from gateway.jobs.database import Database

LEASE = timedelta(minutes=5)
"""After which the claim of a gateway that has ended is free; a request and its repetitions take less."""
PAUSE = 0.1
"""Seconds between two looks at a claim that somebody else has, at most."""


class Claims:
    """The claims of all gateways on one database."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._now = clock

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Be the only one with this key, as soon as nobody else is."""
        holder = secrets.token_hex(16)
        while not await self._database.write(lambda connection: self._take(connection, key, holder)):  # noqa: ASYNC110
            await asyncio.sleep(random.uniform(0, PAUSE))  # noqa: S311 - not a secret
        try:
            yield
        finally:
            own = (t.claims.c.key == key) & (t.claims.c.holder == holder)
            await self._database.write(lambda connection: connection.execute(delete(t.claims).where(own)))

    def _take(self, connection: Connection, key: str, holder: str) -> bool:
        """Two gateways at once: one row can be inserted, and the other transaction is run again."""
        now = self._now()
        connection.execute(delete(t.claims).where(t.claims.c.key == key, t.claims.c.until < rfc3339(now)))
        if connection.execute(select(t.claims.c.holder).where(t.claims.c.key == key)).first() is not None:
            return False
        connection.execute(insert(t.claims).values(key=key, holder=holder, until=rfc3339(now + LEASE)))
        return True
