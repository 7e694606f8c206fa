"""The database's bad days: settings that cannot work, servers that restart, transactions that get in each other's way."""

import asyncio
import sys
import threading
import time
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import text

from gateway.jobs import moves, writers
from gateway.jobs.database import Database
from gateway.jobs.dialects import DatabaseRefused
from gateway.jobs.errors import DatabaseAway
from gateway.jobs.repository import SqlRepository
from tests.contracts.test_repository import condition, create, ids, queued
from tests.doubles import until
from tests.servers import postgres as servers

services = pytest.mark.services


@pytest.fixture(scope="module")
def own_server():
    """A server that a test may stop."""
    with servers.running() as server:
        yield server


@pytest.fixture
def repository(own_server):
    repository = SqlRepository(own_server.database())
    yield repository
    repository.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "no URL"),
        ("mysql://root:secret@host/x", r"mysql://root:\*\*\*@host/x: use postgresql://"),
        ("postgresql+psycopg2://host/x", "use postgresql://"),
        ("postgresql://u:secret@127.0.0.1:1/x", "cannot be used: connection failed.*Connection refused"),
        ("sqlite:////nowhere/at/all.db", "cannot be used: unable to open database file"),
    ],
)
def test_what_cannot_work_is_said_in_one_line_without_the_password(url, says):
    with pytest.raises(DatabaseRefused, match=says) as error:
        Database(url)
    assert len(str(error.value).splitlines()) == 1
    assert "secret" not in str(error.value)


def test_a_driver_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(DatabaseRefused, match=r"pip install 'flaregate\[postgresql\]'"):
        Database("postgresql://127.0.0.1:1/x")


@services
def test_a_wrong_password_and_a_database_that_is_not_there(own_server):
    url = own_server.url("postgres")
    with pytest.raises(DatabaseRefused, match="password authentication failed"):
        Database(url.replace(servers.PASSWORD, "wrong"))
    with pytest.raises(DatabaseRefused, match='"nowhere" does not exist'):
        Database(own_server.url("nowhere"))


@services
async def test_a_restart_of_the_server_is_waited_for(own_server, repository):
    record = await create(repository)
    await asyncio.gather(*(repository.current(record.id) for _ in range(8)))
    own_server.stop()
    asked = [asyncio.ensure_future(condition(repository, record, f"n{n}")) for n in range(5)]
    read = asyncio.ensure_future(repository.current(record.id))
    await asyncio.sleep(0.3)
    assert not any(one.done() for one in (*asked, read))
    await asyncio.to_thread(own_server.start)
    await asyncio.gather(*asked, read)
    assert await ids(repository, record) == list(range(1, 7))


@services
async def test_a_server_that_stays_away_is_said_to_be(own_server, repository, monkeypatch):
    record = await create(repository)
    monkeypatch.setattr(writers, "PATIENCE", 0.3)
    own_server.stop()
    try:
        for asked in (condition(repository, record, "n"), repository.current(record.id), create(repository)):
            with pytest.raises(DatabaseAway):
                await asked
    finally:
        own_server.start()
    await condition(repository, record, "m")
    assert await ids(repository, record) == [1, 2]


@contextmanager
def locked(repository, record):
    """Somebody else has the job's row."""
    url = repository._database._engines.writing.url.render_as_string(hide_password=False)
    with psycopg.connect(url.replace("+psycopg", "")) as other:
        other.execute("SELECT 1 FROM jobs WHERE id = %s FOR UPDATE", [record.id])
        yield other


@services
async def test_locks_are_waited_for_and_others_go_on_meanwhile(repository):
    record = await create(repository)
    with locked(repository, record) as holder:
        asked = asyncio.ensure_future(condition(repository, record, "n"))
        made = [asyncio.ensure_future(create(repository)) for _ in range(20)]
        for one in asyncio.as_completed(made):
            await one
            if sum(other.done() for other in made) >= 8:  # at most a lane in four waits
                break
        assert not asked.done()
        holder.commit()
    await asyncio.gather(*made)
    assert (await asked).job.last_event == 2


@services
async def test_a_connection_that_is_cut_in_a_transaction_loses_and_repeats_nothing(own_server, repository):
    record = await create(repository)
    heard = []
    repository.listen(heard.append)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'flaregate'"
    for number in range(10):
        asked = [asyncio.ensure_future(condition(repository, record, f"{number}-{n}")) for n in range(3)]
        await asyncio.to_thread(own_server.execute, cut)
        await asyncio.gather(*asked)
    assert await ids(repository, record) == list(range(1, 32))
    assert len({one.name for one in (await repository.current(record.id))[0].conditions}) == 30


@services
async def test_what_a_frozen_gateway_has_locked_is_free_after_a_while(own_server):
    url = own_server.database()
    frozen, other = SqlRepository(url, "a", hold=1.5), SqlRepository(url, "b")
    record = await create(frozen)
    tries = []

    def work(connection):
        tries.append(connection.execute(text("SELECT id FROM jobs FOR UPDATE")).scalar())
        if len(tries) == 1:
            time.sleep(1.5)
        return connection.execute(text("UPDATE jobs SET version = version + 10")).rowcount

    asked = asyncio.ensure_future(frozen._database.write(work))
    while not tries:
        await asyncio.sleep(0.01)
    assert (await condition(other, record, "n")).job.version == 2
    assert not asked.done()
    assert await asked == 1
    assert len(tries) == 2
    assert await other.versions([record.id]) == {record.id: 12}
    frozen.close()
    other.close()


@services
async def test_transactions_that_lock_each_other_out_both_come_to_pass(repository):
    first, second = await create(repository), await create(repository)
    both = asyncio.Barrier(2)
    loop = asyncio.get_running_loop()

    def crossing(one, other):
        tries = []

        def work(connection):
            tries.append(1)
            lock = text("UPDATE jobs SET version = version + 10 WHERE id = :id")
            connection.execute(lock, {"id": one.id})
            if len(tries) == 1:
                asyncio.run_coroutine_threadsafe(both.wait(), loop).result(10)
            connection.execute(lock, {"id": other.id})
            return len(tries)

        return work

    lanes = [f"lane-{n}" for n in range(100)]
    database = repository._database
    other = next(
        lane for lane in lanes if hash(lane) % len(database._writers) != hash(lanes[0]) % len(database._writers)
    )
    tries = await asyncio.gather(
        database.write(crossing(first, second), lane=lanes[0]), database.write(crossing(second, first), lane=other)
    )
    assert sorted(tries) == [1, 2]
    assert await repository.versions([first.id, second.id]) == {first.id: 21, second.id: 21}


async def test_many_submissions_at_once_share_transactions(tmp_path):
    repository = SqlRepository(f"sqlite:///{tmp_path / 'gateway.db'}")
    commits = []
    from sqlalchemy import event

    event.listen(repository._database._engines.writing, "commit", commits.append)
    made = await asyncio.gather(*(create(repository) for _ in range(200)))
    assert len({record.id for record in made}) == 200
    assert len(await repository.active()) == 200
    assert len(commits) < 50
    repository.close()


async def test_closing_ends_though_it_comes_with_a_write_that_waits(tmp_path):
    database, begun, go_on = Database(f"sqlite:///{tmp_path / 'gateway.db'}"), threading.Event(), threading.Event()

    def slow(_):
        begun.set()
        go_on.wait(10)

    first = asyncio.create_task(database.write(slow))
    await asyncio.to_thread(begun.wait, 10)
    second = asyncio.create_task(database.write(lambda _: "written"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(asyncio.to_thread(database.close))
    await until(lambda: database._writers[0]._waiting.qsize() >= 2)
    go_on.set()
    async with asyncio.timeout(10):
        await closing
    await first
    assert await second == "written"


async def test_a_write_after_the_end_of_its_loop_hurts_nobody(tmp_path):
    repository = SqlRepository(f"sqlite:///{tmp_path / 'gateway.db'}")

    def other_loop():
        async def ask():
            asyncio.ensure_future(repository.create(moves.queued(queued()), b""))  # noqa: RUF006 - dropped on purpose
            await asyncio.sleep(0)

        asyncio.run(ask())

    await asyncio.to_thread(other_loop)
    record = await create(repository)
    end = time.monotonic() + 5
    while len(await repository.active()) < 2:
        assert time.monotonic() < end
    assert record.id in await repository.active()
    repository.close()
