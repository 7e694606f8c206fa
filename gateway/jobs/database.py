"""How threads use the database: one that writes, a few that read. Nothing of it runs on the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event

from gateway.jobs.migrations import upgrade

T = TypeVar("T")
READERS = 4


def _pragmas(connection: Any, _: object) -> None:
    """WAL lets readers read while the writer writes. With it, NORMAL loses nothing when a process is killed.

    Only a machine that loses its power may lose the last commits, and with them it loses the local runs anyway.
    """
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


class Database:
    """One writer thread with a connection of its own, so that writes never wait for each other's locks."""

    def __init__(self, url: str) -> None:
        self._engine: Engine = create_engine(url, pool_size=READERS + 1)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _pragmas)
        self._writer = ThreadPoolExecutor(1, "writer")
        self._readers = ThreadPoolExecutor(READERS, "reader")
        with self._engine.begin() as connection:
            upgrade(connection)
        self._connection: Connection | None = None

    async def write(self, work: Callable[[Connection], T], done: Callable[[T], None] | None = None) -> T:
        """Run one transaction; `done` runs on the event loop after its commit, in the order of the commits.

        It is shielded: a request that is dropped does not stop half-way what it has begun.
        """
        loop = asyncio.get_running_loop()

        def transact() -> T:
            if self._connection is None:
                self._connection = self._engine.connect()
            with self._connection.begin():
                result = work(self._connection)
            if done is not None:
                loop.call_soon_threadsafe(done, result)
            return result

        return await asyncio.shield(loop.run_in_executor(self._writer, transact))

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run a query in a reader's thread."""

        def query() -> T:
            with self._engine.connect() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._readers, query)

    def close(self) -> None:
        """Wait for what has begun and let go of all connections."""
        self._readers.shutdown()
        if self._connection is not None:
            self._writer.submit(self._connection.close).result()
            self._connection = None
        self._writer.shutdown()
        self._engine.dispose()
