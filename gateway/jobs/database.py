"""How the event loop uses the database: threads write and read, nothing of it runs on the loop."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from gateway.jobs import dialects
from gateway.jobs.migrations import SchemaNewer, upgrade
from gateway.jobs.writers import Wanted, Writer, patiently

T = TypeVar("T")


class Database:
    """Writers with a connection each, so that none waits for another's locks; and a few readers.

    Works may run more than once before they are committed, so they change nothing but the database.
    """

    def __init__(self, url: str, pause: float = 5.0) -> None:
        """Connect and bring the schema up to date; `pause` as in `connect`. Raises DatabaseRefused."""
        self._engines = dialects.connect(url, pause)
        try:
            self._upgrade()
        except BaseException:
            self._engines.dispose()
            raise
        self._writers = [Writer(self._engines.writing, dialects.TOGETHER) for _ in range(self._engines.writers)]
        self._readers = ThreadPoolExecutor(dialects.READERS, "reader")

    @property
    def kind(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engines.kind

    def _upgrade(self) -> None:
        try:
            with self._engines.writing.begin() as connection:
                upgrade(connection, lambda: dialects.alone(connection, self.kind))
        except DBAPIError as error:
            raise dialects.refused(error) from error
        except SchemaNewer as error:
            raise dialects.DatabaseRefused(str(error)) from error

    async def write(
        self, work: Callable[[Connection], T], done: Callable[[T], None] | None = None, lane: str = ""
    ) -> T:
        """Run one transaction; `done` runs on the event loop after its commit.

        Those of one lane come one after the other and are told in the order of their commits. It is shielded: a request
        that is dropped does not stop half-way what it has begun. Raises DatabaseAway.
        """
        loop = asyncio.get_running_loop()
        wanted = Wanted(work, done, loop, loop.create_future(), lane)
        self._writers[hash(lane) % len(self._writers)].put(wanted)
        result: T = await asyncio.shield(wanted.future)
        return result

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run a query in a reader's thread. Raises DatabaseAway."""

        def query() -> T:
            with self._engines.reading.connect() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._readers, patiently, query, time.monotonic())

    def close(self) -> None:
        """Wait for what has begun and let go of all connections."""
        self._readers.shutdown()
        for writer in self._writers:
            writer.close()
        self._engines.dispose()
