"""The threads that write, one transaction after the other; what waits meanwhile goes into one transaction together."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from gateway.jobs.dialects import passing, unstorable
from gateway.jobs.errors import DatabaseAway, InvalidRequest

log = logging.getLogger(__name__)
T = TypeVar("T")
PATIENCE = 10.0
"""Seconds for which a transaction is tried again, before its caller hears that the database is away."""
_QUICKER = 3
"""Tries of a transaction that finds a row which another gateway has just added."""


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """One caller's work, and where it waits for the result."""

    work: Callable[[Connection], Any]
    done: Callable[[Any], None] | None
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    lane: str = ""
    since: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of it; committed, unless there is an error."""

    wanted: Wanted
    result: Any = None
    error: BaseException | None = None

    def tell(self) -> None:
        """On the event loop: first all who listen, then the caller."""
        try:
            if self.error is None and self.wanted.done is not None:
                self.wanted.done(self.result)
        finally:
            if self.wanted.future.cancelled():
                pass
            elif self.error is None:
                self.wanted.future.set_result(self.result)
            else:
                self.wanted.future.set_exception(self.error)


class Writer:
    """A thread with a connection of its own."""

    def __init__(self, engine: Engine, together: int) -> None:
        self._engine = engine
        self._together = together
        self._waiting: SimpleQueue[Wanted | None] = SimpleQueue()
        self._connection: Connection | None = None
        self._thread = Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def put(self, wanted: Wanted) -> None:
        """Have it done, in the order of the calls."""
        self._waiting.put(wanted)

    def close(self) -> None:
        """Wait for what has begun."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        closing = False
        while not closing:
            found = list(self._next())
            closing = None in found  # which is the last that is put
            settled = self._together_or_alone([wanted for wanted in found if wanted is not None])
            for loop, some in groupby(settled, key=lambda one: one.wanted.loop):
                with suppress(RuntimeError):  # the loop has ended: nobody waits there any more
                    loop.call_soon_threadsafe(_tell, list(some))
        if self._connection is not None:
            self._connection.close()

    def _next(self) -> Iterator[Wanted | None]:
        yield self._waiting.get()
        with suppress(Empty):
            for _ in range(self._together - 1):
                yield self._waiting.get_nowait()

    def _together_or_alone(self, group: list[Wanted]) -> list[Settled]:
        """In one transaction; where one of them raises anything, each in its own."""
        if len(group) > 1:
            with suppress(Exception):  # whose trouble it is, each will see by itself
                ordered = sorted(group, key=lambda wanted: wanted.lane)  # as other gateways lock them too
                results = self._transact(lambda connection: [wanted.work(connection) for wanted in ordered])
                return [Settled(wanted, result) for wanted, result in zip(ordered, results, strict=True)]
        return [self._alone(wanted) for wanted in group]

    def _alone(self, wanted: Wanted) -> Settled:
        try:
            return Settled(wanted, patiently(lambda: self._transact(wanted.work), wanted.since))
        except Exception as error:  # noqa: BLE001 - its caller's
            return Settled(wanted, error=error)

    def _transact(self, work: Callable[[Connection], T]) -> T:
        if self._connection is None:
            self._connection = self._engine.connect()
        try:
            with self._connection.begin():
                return work(self._connection)
        except DBAPIError as error:
            if error.connection_invalidated:
                self._connection.close()
                self._connection = None
            raise


def patiently(work: Callable[[], T], since: float) -> T:
    """The work's result; it is done again, with growing pauses, where the reason that it failed will pass.

    Raises DatabaseAway where it has not passed in time, counted from when it was asked for.
    """
    end, pause, tries = since + PATIENCE, 0.02, 0
    while True:
        tries += 1
        try:
            return work()
        except IntegrityError:
            if tries >= _QUICKER:
                raise
        except DBAPIError as error:
            if unstorable(error):
                raise InvalidRequest("a value has a character or a length that cannot be stored") from error
            if not passing(error):
                raise
            if time.monotonic() + pause > end:
                raise DatabaseAway from error
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - so that not all come back at once
            pause = min(2 * pause, 1.0)


def _tell(settled: list[Settled]) -> None:
    for one in settled:
        one.tell()
