"""The schema's history: from every released schema, with data in it, to the newest; by several gateways at once."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, insert, select, text

from flaregate_wire.states import State
from gateway.jobs import migrations, moves
from gateway.jobs.cache_index import Scope
from gateway.jobs.dialects import DatabaseRefused, connect
from gateway.jobs.listing import Filter
from gateway.jobs.records import ATTEMPT, JOB
from gateway.jobs.repository import SqlRepository
from gateway.jobs.tables import metadata
from tests.gateway.test_decisions import NOW, attempt, job
from tests.servers.databases import BOTH

DATABASES = BOTH
SUM = "sha256:" + "0" * 64
RELEASED = ("0001", "0002")
ROWS = {
    "jobs": {
        "id": "job-1",
        "state": "running",
        "active": True,
        "created": "2026-01-01T00:00:00.000000Z",
        "record": JOB.dump_json(job(State.RUNNING, last_event=2, labels={"a": "b"})).decode(),
        "definition": b'{"inputs": {"X": {"blob": "%s"}}}' % SUM.encode(),
    },
    "labels": {"job": "job-1", "name": "a", "value": "b"},
    "attempts": {
        "id": "job-1-1",
        "job": "job-1",
        "number": 1,
        "record": ATTEMPT.dump_json(attempt(boots={0: "b"})).decode(),
    },
    "event_batches": {"job": "job-1", "first": 1, "last": 2, "lines": b'{"id":1}\n{"id":2}\n'},
    "segments": {"job": "job-1", "attempt": 1, "container": 0, "start": 0, "size": 5, "key": "k/log"},
    "artifacts": {"job": "job-1", "name": "model", "key": "k/a", "media_type": "a/b", "size": 1, "sha256": SUM},
    "blobs": {"sha256": SUM, "size": 2**40, "media_type": "a/b", "key": "k/b", "complete": True},
    "idempotency": {"key": "key", "body": SUM, "view": b"{}"},
    "cache_objects": {
        "id": 7,
        "project": "default",
        "key": "k/c",
        "size": 3,
        "sha256": SUM,
        "job": "job-1",
        "attempt": "job-1-1",
        "created": "2026-01-01T00:00:00.000000Z",
        "used": "2026-01-01T00:00:00.000000Z",
    },
    "cache_shelves": {"project": "default", "shelf": "shelf", "object": 7},
}


def config(connection=None):
    made = Config()
    made.set_main_option("script_location", str(migrations.__path__[0]))
    made.set_main_option("path_separator", "os")
    made.attributes["connection"] = connection
    return made


def left_by(revision, url):
    """A database as a gateway of that schema left it, with a row in each table."""
    engines = connect(url)
    with engines.writing.begin() as connection:
        command.upgrade(config(connection), revision)
        there = MetaData()
        there.reflect(connection)
        for table in there.sorted_tables:
            if table.name != "alembic_version":
                connection.execute(insert(table), {"tenant": "default", **ROWS[table.name]})
    engines.dispose()
    return {table.name for table in there.sorted_tables} - {"alembic_version"}


@pytest.mark.parametrize("revision", RELEASED)
async def test_every_released_schema_is_taken_up_with_its_data(database_url, revision):
    tables = left_by(revision, database_url)
    assert {"0001": 8, "0002": 10}[revision] == len(tables)
    repository = SqlRepository(database_url)
    try:
        for name in tables:
            row = {"tenant": "default", **ROWS[name]}
            query = select(*(metadata.tables[name].c[column] for column in row))
            (found,) = await repository._database.read(lambda connection, query=query: list(connection.execute(query)))
            assert found._asdict() == row
        record, last = await repository.current("job-1")
        assert (record.labels, last.boots) == ({"a": "b"}, {0: "b"})
        assert await repository.page("default", Filter(label=("a", "b")), 10) == (record,)
        assert (await repository.blobs("default", [SUM]))[SUM].size == 2**40
        assert [batch.last for batch in await repository.events("job-1", 0, 100)] == [2]
        assert (await repository.answer("default", "key")).body == SUM
        shelved = await repository.cache.segments(Scope("default", "default"), ["shelf"], NOW)
        assert [item.object.key for item in shelved] == (["k/c"] if "cache_objects" in tables else [])
        await repository.holding.keep(NOW)
        assert list(repository.holding) == ["job-1"], "what nobody holds is taken up"
        fence = repository.holding.fence("job-1")
        written = await repository.change("job-1", lambda j, _: moves.condition(j, "n", NOW, "x"), fence)
        assert written.batch.first == 3
    finally:
        repository.close()


def test_the_migrations_make_the_tables_and_go_back(database_url):
    engines = connect(database_url)
    with engines.writing.begin() as connection:
        migrations.upgrade(connection)
        migrations.upgrade(connection)
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        command.downgrade(config(connection), "base")
        migrations.upgrade(connection)
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engines.dispose()


def test_gateways_that_start_at_once_upgrade_once(database_url):
    left_by("0002", database_url)
    with ThreadPoolExecutor(4) as starts:
        for repository in starts.map(lambda _: SqlRepository(database_url), range(4)):
            assert asyncio.run(repository.active()) == ("job-1",)
            repository.close()


def test_a_database_of_a_newer_gateway_is_left_alone(database_url):
    SqlRepository(database_url).close()
    engines = connect(database_url)
    with engines.writing.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engines.dispose()
    with pytest.raises(DatabaseRefused, match="schema 9999, which is newer"):
        SqlRepository(database_url)


def test_head_is_the_newest_migration():
    assert ScriptDirectory.from_config(config()).get_current_head() == migrations.HEAD


def test_every_table_has_the_tenant():
    no_tenants = {"claims"}  # keys of the store, which have the tenant
    assert all("tenant" in table.columns for name, table in metadata.tables.items() if name not in no_tenants)


async def test_every_store_path_has_the_tenant(gateway):
    made = await gateway.submit()
    head = await gateway.head(made)
    await head.log(b"x")
    await gateway.http.post("/v1/blobs", json={"sha256": SUM, "size": 1, "media_type": "a/b"})
    await head.commit()
    await gateway.ended(made)
    query = text("SELECT key FROM segments UNION SELECT key FROM blobs")
    keys = await gateway.repository._database.read(lambda connection: list(connection.execute(query).scalars()))
    assert len(keys) == 2
    assert all(key.startswith("tenants/default/") for key in keys)
