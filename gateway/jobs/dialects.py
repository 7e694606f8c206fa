"""SQLite and PostgreSQL: how to connect to each, and what their errors mean. The one module that tells them apart."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, InterfaceError, OperationalError

READERS = 4
WRITERS = 4
"""Of PostgreSQL. SQLite has one: it lets one write at a time anyway."""
TOGETHER = 64
"""Writes that wait are one transaction, so many at most."""
UPGRADE = 0x666C6172
"""The number of PostgreSQL's lock under which the schema is upgraded."""
_PASSING = frozenset({"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "53300"})
"""Serialization, deadlock, lock not available, shutdown (three kinds), too many connections."""
_POSTGRES = {
    "connect_timeout": 5,
    "application_name": "flaregate",
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
_LIMITS = "-c statement_timeout=30s -c lock_timeout=5s -c idle_in_transaction_session_timeout={}ms"


class DatabaseRefused(Exception):
    """The database cannot be used with these settings; the message is for who runs the gateway."""


@dataclass(frozen=True, slots=True)
class Engines:
    """How to reach one database."""

    kind: str
    """`sqlite` or `postgresql`."""
    writing: Engine
    reading: Engine
    writers: int

    def dispose(self) -> None:
        """Let go of all connections that nobody uses."""
        self.writing.dispose()
        self.reading.dispose()


def connect(text_url: str, pause: float = 5.0) -> Engines:
    """The engines for a URL; nothing is asked of the database yet. Raises DatabaseRefused.

    A gateway that is frozen in a transaction for longer than `pause` seconds loses it, and what it has locked is free.
    """
    try:
        url = make_url(text_url)
    except ArgumentError as error:
        raise DatabaseRefused("database_url is no URL; give postgresql://USER:PASSWORD@HOST/DATABASE") from error
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        return _sqlite(url)
    if url.drivername in ("postgresql", "postgresql+psycopg"):
        return _postgres(url.set(drivername="postgresql+psycopg"), pause)
    shown = url.render_as_string(hide_password=True)
    raise DatabaseRefused(f"database_url is {shown}: use postgresql://… or sqlite:///…, there is no other kind")


def _sqlite(url: URL) -> Engines:
    writing, reading = create_engine(url, pool_size=1), create_engine(url, pool_size=READERS)
    for engine, begin in ((writing, "BEGIN IMMEDIATE"), (reading, "BEGIN")):
        event.listen(engine, "connect", _pragmas)
        event.listen(engine, "begin", _beginner(begin))
    return Engines("sqlite", writing, reading, writers=1)


def _pragmas(connection: Any, _: object) -> None:
    """WAL lets readers read while the writer writes. With it, NORMAL loses nothing when a process is killed.

    Only a machine that loses its power may lose the last commits, and with them it loses the local runs anyway.
    """
    connection.isolation_level = None  # the driver begins no transactions by itself, so that savepoints work
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _beginner(statement: str) -> Callable[[Connection], None]:
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    return begin


def _postgres(url: URL, pause: float) -> Engines:
    given = {**_POSTGRES, "options": _LIMITS.format(int(1000 * pause))}
    try:
        writing = create_engine(url, pool_size=WRITERS, connect_args=given)
        reading = create_engine(url, pool_size=READERS, connect_args=given, isolation_level="AUTOCOMMIT")
    except ModuleNotFoundError as error:
        raise DatabaseRefused("PostgreSQL needs psycopg: pip install 'flaregate[postgresql]'") from error
    return Engines("postgresql", writing, reading, writers=WRITERS)


def conninfo(text_url: str) -> str:
    """The same database for PostgreSQL's driver itself."""
    return make_url(text_url).set(drivername="postgresql").render_as_string(hide_password=False)


def alone(connection: Connection, kind: str) -> None:
    """Wait until no other gateway upgrades the schema, and keep others waiting until the transaction's end."""
    if kind == "postgresql":  # SQLite's transaction that writes is alone already
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            connection.execute(text(f"SET LOCAL {name} = 0"))
        connection.execute(text(f"SELECT pg_advisory_xact_lock({UPGRADE})"))


def passing(error: DBAPIError) -> bool:
    """Whether the same transaction may succeed a little later: nothing of it was kept."""
    if error.connection_invalidated or getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
        return True
    if not isinstance(error, OperationalError | InterfaceError) or isinstance(error.orig, sqlite3.Error):
        return False
    state = getattr(error.orig, "sqlstate", None)  # none: no connection came about
    return state is None or state in _PASSING or state.startswith("08")


def unstorable(error: DBAPIError) -> bool:
    """Whether a value is one that the database has no room for, such as a text with a NUL."""
    return isinstance(error, DataError)


def refused(error: DBAPIError) -> DatabaseRefused:
    """Why the first connection did not come about, in one line."""
    lines = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
    return DatabaseRefused(f"the database cannot be used: {' '.join(line.strip() for line in lines)}")
