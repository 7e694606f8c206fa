"""What gateways on one PostgreSQL tell each other: which jobs have changed. The one module that listens and notifies.

A commit is told just after it, not in it: PostgreSQL lets transactions that notify commit only one after the other.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

from gateway.jobs.dialects import conninfo
from gateway.jobs.errors import DatabaseAway
from gateway.jobs.feed import Feed
from gateway.jobs.repository import SqlRepository, Written

Connection = psycopg.AsyncConnection[Any]
log = logging.getLogger(__name__)
GATHER = 0.005
"""Seconds in which what is to be told gathers."""
POLL = 1.0
"""Seconds between looks at the jobs that are read here, while no word can come."""
AGAIN = 0.5
"""Seconds between tries to connect."""
_TELL = "SELECT pg_notify('flaregate', word) FROM unnest(%s::text[]) AS word"


class News:
    """The word of one gateway to the others, and theirs to it."""

    def __init__(self, url: str, repository: SqlRepository, feed: Feed, nudge: Callable[[str], None]) -> None:
        """`nudge`: called with a job that its holder should look at; it knows which it holds."""
        self._conninfo = conninfo(url)
        self._repository = repository
        self._name = repository.holding.name
        self._feed = feed
        self._nudge = nudge
        self._untold: dict[str, tuple[int, bool]] = {}
        self._some = asyncio.Event()
        self._hearing = False
        repository.listen(self._written)

    def stir(self, job: str) -> None:
        """Have its holder look at a job, whichever gateway that is."""
        self._nudge(job)
        if job not in self._repository.holding:
            self._put(job, 0, stir=True)

    def _written(self, written: Written) -> None:
        self._put(written.job.id, written.job.last_event, stir=False)

    def _put(self, job: str, last: int, *, stir: bool) -> None:
        before = self._untold.get(job, (0, False))
        self._untold[job] = (max(last, before[0]), stir or before[1])
        self._some.set()

    async def run(self) -> None:
        """Tell and hear until cancelled."""
        async with asyncio.TaskGroup() as group:
            for work in (self._tell, self._hear):
                group.create_task(self._connected(work))
            group.create_task(self._poll())

    async def _connected(self, work: Callable[[Connection], Awaitable[None]]) -> None:
        """Do it on a connection of its own, and on the next where one is lost."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._conninfo, autocommit=True, connect_timeout=5, application_name="flaregate news"
                ) as connection:
                    await work(connection)
            except psycopg.Error as error:
                log.warning("word from and to other gateways is delayed: %s", str(error).strip().partition("\n")[0])
            await asyncio.sleep(AGAIN)

    async def _tell(self, connection: Connection) -> None:
        await connection.execute("SET synchronous_commit = off")
        while True:
            await self._some.wait()
            await asyncio.sleep(GATHER)
            self._some.clear()
            telling, self._untold = self._untold, {}
            words = [f"{self._name} {job} {last} {stir:d}" for job, (last, stir) in telling.items()]
            try:
                await connection.execute(_TELL, [words])
            except psycopg.Error:
                for job, (last, stir) in telling.items():
                    self._put(job, last, stir=stir)
                raise

    async def _hear(self, connection: Connection) -> None:
        await connection.execute("LISTEN flaregate")
        for job in self._feed.jobs:
            self._feed.hear(job, None)  # of what came before there was no word
        self._hearing = True
        try:
            async for word in connection.notifies():
                with contextlib.suppress(ValueError):  # not our word
                    name, job, last, stir = word.payload.split()
                    self._heard(name, job, int(last), stir=stir == "1")
        finally:
            self._hearing = False

    def _heard(self, name: str, job: str, last: int, *, stir: bool) -> None:
        if name == self._name:
            return
        self._feed.hear(job, last)
        if stir:
            self._nudge(job)

    async def _poll(self) -> None:
        known: dict[str, int] = {}
        while True:
            await asyncio.sleep(POLL)
            found: dict[str, int] = {}
            if not self._hearing:
                with contextlib.suppress(DatabaseAway):
                    found = await self._repository.versions(self._feed.jobs)
            for job in [job for job, version in found.items() if known.get(job) != version]:
                self._feed.hear(job, None)
            known = found
