"""The database: its schema's history, its one writer, what survives."""

import asyncio
import json
import sqlite3

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, insert, inspect

from gateway.jobs import migrations, moves
from gateway.jobs.cache_index import Scope
from gateway.jobs.repository import SqlRepository
from gateway.jobs.tables import metadata
from tests.gateway.test_decisions import NOW, job

SUM = "sha256:" + "0" * 64


def test_the_migrations_make_the_tables():
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        migrations.upgrade(connection)
        migrations.upgrade(connection)
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


async def test_a_database_of_the_first_schema_is_taken_up(tmp_path):
    path = tmp_path / "a.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(migrations.__path__[0]))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        assert not inspect(connection).has_table("cache_objects")
        row = {"tenant": "default", "sha256": SUM, "size": 1, "media_type": "a/b", "key": "tenants/default/blobs/1"}
        connection.execute(insert(metadata.tables["blobs"]), row | {"complete": True})
    engine.dispose()
    repository = SqlRepository(f"sqlite:///{path}")
    assert (await repository.blobs("default", [SUM]))[SUM].key == "tenants/default/blobs/1"
    assert await repository.cache.segments(Scope("default", "default"), ["a shelf"], NOW) == ()
    repository.close()


def test_head_is_the_newest_migration():
    config = Config()
    config.set_main_option("script_location", str(migrations.__path__[0]))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == migrations.HEAD


def test_every_table_has_the_tenant():
    no_tenants = {"claims"}  # keys of the store, which have the tenant
    assert {name for name, table in metadata.tables.items() if "tenant" not in table.columns} == no_tenants


async def test_every_store_path_has_the_tenant(gateway):
    made = await gateway.submit()
    head = await gateway.head(made)
    await head.log(b"x")
    await gateway.http.post("/v1/blobs", json={"sha256": "sha256:" + "0" * 64, "size": 1, "media_type": "a/b"})
    await head.commit()
    await gateway.ended(made)
    with sqlite3.connect(gateway.repository._database._engine.url.database) as database:
        keys = [row[0] for row in database.execute("SELECT key FROM segments UNION SELECT key FROM blobs")]
    database.close()
    assert len(keys) == 2
    assert all(key.startswith("tenants/default/") for key in keys)


async def test_what_is_written_survives(tmp_path):
    url = f"sqlite:///{tmp_path / 'a.db'}"
    first = SqlRepository(url)
    record = job(moves.State.QUEUED, attempts=0, started=None, labels={"a": "b"})
    await first.create(moves.queued(record), b"{}")
    await first.change(record.id, lambda j, a: moves.begin(j, a, NOW))
    kept = await first.current(record.id)
    first.close()
    second = SqlRepository(url)
    assert await second.current(record.id) == kept
    assert await second.active() == (record.id,)
    assert [attempt.id for attempt in await second.present()] == [f"{record.id}-1"]
    second.close()


async def test_changes_at_once_are_one_after_the_other(tmp_path):
    repository = SqlRepository(f"sqlite:///{tmp_path / 'a.db'}")
    record = job(moves.State.QUEUED, attempts=0, started=None)
    heard = []
    repository.listen(heard.append)
    await repository.create(moves.queued(record), b"{}")
    names = [f"n{n}" for n in range(50)]
    await asyncio.gather(
        *(repository.change(record.id, lambda j, _, name=name: moves.condition(j, name, NOW, "x")) for name in names)
    )
    batches = await repository.events(record.id, 0, 10_000_000)
    ids = [json.loads(line)["id"] for batch in batches for line in batch.lines.splitlines()]
    assert ids == list(range(1, 52))
    assert [written.batch.first for written in heard] == ids, "listeners hear in the order of the commits"
    current, _ = await repository.current(record.id)
    assert (current.last_event, current.version) == (51, 51)
    assert len(current.conditions) == 50
    repository.close()


async def test_a_change_that_raises_changes_nothing(tmp_path):
    repository = SqlRepository(f"sqlite:///{tmp_path / 'a.db'}")
    record = job(moves.State.QUEUED, attempts=0, started=None)
    await repository.create(moves.queued(record), b"{}")
    before = await repository.current(record.id)

    def broken(*_):
        raise ZeroDivisionError

    done = await asyncio.gather(repository.change(record.id, broken), return_exceptions=True)
    assert isinstance(done[0], ZeroDivisionError)
    assert await repository.current(record.id) == before
    assert await repository.change("nobody", broken) is None
    repository.close()


async def test_events_are_read_in_pages(tmp_path):
    repository = SqlRepository(f"sqlite:///{tmp_path / 'a.db'}")
    record = job(moves.State.QUEUED, attempts=0, started=None)
    await repository.create(moves.queued(record), b"{}")
    for n in range(20):
        await repository.change(record.id, lambda j, _, n=n: moves.condition(j, f"n{n}", NOW, "x" * 1000))
    after, pages = 0, 0
    while found := await repository.events(record.id, after, 3000):
        assert sum(len(batch.lines) for batch in found) < 5000
        assert found[0].first == after + 1
        after, pages = found[-1].last, pages + 1
    assert after == 21
    assert pages > 4
    repository.close()
