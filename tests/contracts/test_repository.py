"""What every database must do: one suite for SQLite and PostgreSQL."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from flaregate_wire.attempts import CommittedArtifact
from flaregate_wire.states import State
from gateway.jobs import moves
from gateway.jobs.errors import InvalidRequest
from gateway.jobs.holding import Overtaken
from gateway.jobs.ids import first_id, new_id
from gateway.jobs.listing import Filter
from gateway.jobs.log_index import Cursor, LogFilter
from gateway.jobs.records import Answer, Segment
from gateway.jobs.repository import SqlRepository
from tests.gateway.test_decisions import NOW, job
from tests.servers.databases import BOTH

DATABASES = BOTH


@pytest.fixture
def open_repository(database_url):
    """Repositories on one database; each is a gateway of its own."""
    made = []

    def build(name="gateway", hold=15.0):
        made.append(SqlRepository(database_url, name, hold))
        return made[-1]

    yield build
    for repository in made:
        repository.close()


@pytest.fixture
def repository(open_repository):
    return open_repository()


def queued(**changes):
    """A new job with an id as the gateway gives them."""
    created = changes.get("created", NOW)
    return replace(job(State.QUEUED, attempts=0, started=None), **{"id": new_id(created), "created": created} | changes)


async def create(repository, **changes):
    record = queued(**changes)
    written = await repository.create(moves.queued(record), b'{"a": 1}')
    assert written is not None
    return written.job


async def condition(repository, record, name, message="x", fence=None):
    return await repository.change(record.id, lambda j, _: moves.condition(j, name, NOW, message), fence)


async def ids(repository, record):
    batches = await repository.events(record.id, 0, 10_000_000)
    return [json.loads(line)["id"] for batch in batches for line in batch.lines.splitlines()]


async def ended(repository, record):
    verdict = moves.Verdict(State.CANCELLED, NOW)
    await repository.change(record.id, lambda j, _: moves.close(j, verdict, NOW))


async def rows(repository, query, **values):
    return await repository._database.read(lambda connection: list(connection.execute(text(query), values)))


async def test_what_is_written_survives(open_repository):
    first = open_repository()
    record = await create(first, labels={"a": "b"})
    await first.change(record.id, lambda j, a: moves.begin(j, a, NOW))
    kept = await first.current(record.id)
    first.close()
    second = open_repository()
    assert await second.current(record.id) == kept
    assert await second.active() == (record.id,)
    assert await second.held() == (kept,)
    assert kept[1].id == f"{record.id}-1"
    assert await second.attempt(kept[1].id) == kept[1]
    assert await second.attempts([record.id, "nobody"]) == {record.id: (kept[1],), "nobody": ()}
    assert await second.definition(record.id) == b'{"a": 1}'
    assert await second.current("nobody") is None
    assert await second.definition("nobody") == b""


async def test_changes_at_once_are_one_after_the_other(repository):
    heard = []
    repository.listen(heard.append)
    record = await create(repository)
    names = [f"n{n}" for n in range(50)]
    await asyncio.gather(*(condition(repository, record, name) for name in names))
    assert await ids(repository, record) == list(range(1, 52))
    assert [written.batch.first for written in heard] == list(range(1, 52)), "in the order of the commits"
    current, _ = await repository.current(record.id)
    assert (current.last_event, current.version, len(current.conditions)) == (51, 51, 50)
    assert await repository.versions([record.id, "nobody"]) == {record.id: 51}


async def test_gateways_that_change_a_job_at_once_give_each_event_its_own_id(open_repository):
    gateways = [open_repository(name) for name in ("a", "b")]
    record = await create(gateways[0])
    other = await create(gateways[1])
    await asyncio.gather(
        *(
            condition(gateway, one, f"{number}-{gateway.holding.name}")
            for number in range(25)
            for gateway in gateways
            for one in (record, other)
        )
    )
    for one in (record, other):
        assert await ids(gateways[0], one) == list(range(1, 52))
        current, _ = await gateways[0].current(one.id)
        assert (current.version, len(current.conditions)) == (51, 50)


async def test_a_change_that_raises_changes_nothing_and_leaves_the_others_alone(repository):
    record, other = await create(repository), await create(repository)
    before = await repository.current(record.id)

    def broken(*_):
        raise ZeroDivisionError

    asked = [repository.change(record.id, broken), *(condition(repository, other, f"n{n}") for n in range(5))]
    done = await asyncio.gather(*asked, *[repository.change(record.id, broken)], return_exceptions=True)
    assert isinstance(done[0], ZeroDivisionError)
    assert isinstance(done[-1], ZeroDivisionError)
    assert await repository.current(record.id) == before
    assert len((await repository.current(other.id))[0].conditions) == 5
    assert await repository.change("nobody", broken) is None


async def test_a_statement_that_fails_leaves_the_others_alone(repository):
    record = await create(repository)
    broken = repository._database.write(lambda connection: connection.execute(text("SELECT nonsense")))
    done = await asyncio.gather(
        *(condition(repository, record, f"n{n}") for n in range(3)),
        broken,
        *(condition(repository, record, f"m{n}") for n in range(3)),
        return_exceptions=True,
    )
    assert "nonsense" in str(done[3])
    assert [item.job.last_event for item in done[:3] + done[4:]] == list(range(2, 8))
    assert await ids(repository, record) == list(range(1, 8))


async def test_a_request_that_is_dropped_does_not_stop_what_it_has_begun(repository):
    record = await create(repository)
    heard = []
    repository.listen(heard.append)
    asked = asyncio.create_task(condition(repository, record, "n"))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await condition(repository, record, "m")
    assert [written.job.last_event for written in heard] == [2, 3]


async def test_the_same_key_gives_one_job(open_repository):
    gateways = [open_repository(name) for name in ("a", "b")]
    records = [queued() for _ in range(20)]
    made = await asyncio.gather(
        *(
            gateways[place % 2].create(moves.queued(record), b"", lambda j: Answer("key", "sum", j.id.encode()))
            for place, record in enumerate(records)
        )
    )
    (one,) = [written for written in made if written is not None]
    answer = await gateways[0].answer("default", "key")
    assert (answer.body, answer.view.decode()) == ("sum", one.job.id)
    assert await gateways[1].active() == (one.job.id,)
    assert await gateways[0].answer("other", "key") is None


async def test_the_word_of_a_submission_that_is_lost_makes_no_second_job(repository):
    record = queued()
    kept = repository._database.write

    async def twice(work, done, lane):
        """As if the connection had been cut between the commit and its answer."""
        await kept(work, None, lane)
        return await kept(work, done, lane)

    repository._database.write = twice
    written = await repository.create(moves.queued(record), b"")
    assert written.job.id == record.id
    assert await ids(repository, record) == [1]
    assert record.id in repository.holding


async def test_events_are_read_in_pages(repository):
    record = await create(repository)
    for n in range(20):
        await condition(repository, record, f"n{n}", "x" * 1000)
    after, pages = 0, 0
    while found := await repository.events(record.id, after, 3000):
        assert sum(len(batch.lines) for batch in found) < 5000
        assert found[0].first == after + 1
        after, pages = found[-1].last, pages + 1
    assert after == 21
    assert pages > 4
    assert (await repository.events(record.id, 20, 1))[0].first == 21


async def test_pages_newest_first_by_each_filter(repository):
    made = []
    for n in range(12):
        labels = {"third": str(n % 3)} | ({"rare": "yes"} if n == 4 else {})
        made.append(await create(repository, created=NOW + timedelta(seconds=n), labels=labels))
    await create(repository, tenant="other", labels={"third": "1"})
    await ended(repository, made[7])

    async def page(limit=100, **wanted):
        return [made.index(record) for record in await repository.page("default", Filter(**wanted), limit)]

    made[7] = (await repository.current(made[7].id))[0]
    assert await page() == list(range(11, -1, -1))
    assert await page(limit=5, before=made[5].id) == [4, 3, 2, 1, 0]
    assert await page(label=("third", "1")) == [10, 7, 4, 1]
    assert await page(label=("third", "1"), before=made[7].id, limit=1) == [4]
    assert await page(label=("rare", "yes"), state=State.QUEUED) == [4]
    assert await page(label=("third", "9")) == []
    assert await page(state=State.CANCELLED) == [7]
    assert await page(state=State.QUEUED, limit=4) == [11, 10, 9, 8]
    assert await page(created_after=NOW + timedelta(seconds=9)) == [11, 10]
    assert await page(created_after=NOW + timedelta(seconds=8.9995), state=State.QUEUED) == [11, 10, 9]


async def test_logs_and_artifacts(repository):
    record = await create(repository)
    segments = tuple(Segment(1, 0, start, 10, f"key-{start}") for start in (0, 10, 20))
    artifacts = tuple(
        CommittedArtifact(name=name, key=f"k/{name}", media_type="a/b", size=1, sha256="sha256:" + "0" * 64)
        for name in ("b", "_", "B", "a-b", "a")
    )
    move = moves.Move(record, segments=segments, artifacts=artifacts)
    await repository.change(record.id, lambda *_: move)
    again = replace(move, segments=(), artifacts=(artifacts[0].model_copy(update={"size": 2}),))
    await repository.change(record.id, lambda *_: again)
    found = await repository.logs.behind(record.id, LogFilter(), 0)
    assert [segment for _, segment in found] == list(segments)
    numbers = [number for number, _ in found]
    assert [segment for _, segment in await repository.logs.behind(record.id, LogFilter(), numbers[1])] == [segments[2]]
    assert await repository.logs.before(record.id, LogFilter(), None) == found[::-1]
    assert await repository.logs.before(record.id, LogFilter(), numbers[1]) == found[:1]
    for offset, cursor in [(0, Cursor()), (9, Cursor()), (10, Cursor(numbers[0], 10)), (99, Cursor(numbers[2], 30))]:
        assert await repository.logs.seek(record.id, LogFilter(role="head"), offset) == cursor
    assert [await repository.logs.size(record.id, LogFilter(), until) for until in (None, *numbers)] == [30, 10, 20, 30]
    for other in (LogFilter(index=1), LogFilter(role="worker"), LogFilter(attempt=2)):
        assert await repository.logs.size(record.id, other) == 0
        assert await repository.logs.behind(record.id, other, 0) == ()
    assert [item.name for item in await repository.artifacts(record.id)] == ["B", "_", "a", "a-b", "b"]
    assert (await repository.artifacts(record.id))[4].size == 2


async def test_what_cannot_be_stored_is_the_callers_fault(repository):
    await create(repository)
    if repository.kind == "postgresql":
        with pytest.raises(InvalidRequest, match="cannot be stored"):
            await repository.current("job-\x00")
    else:
        assert await repository.current("job-\x00") is None


def test_ids_are_in_the_order_of_creation(database_url):
    times = [NOW + timedelta(milliseconds=n) for n in range(0, 100_000, 997)]
    made = [new_id(time) for time in times]
    assert made == sorted(made)
    assert all(
        first_id(time) <= one < first_id(time + timedelta(milliseconds=1))
        for time, one in zip(times, made, strict=True)
    )
    assert {len(one) for one in made} == {30}


def later(seconds):
    return NOW + timedelta(seconds=seconds)


async def test_a_job_is_held_by_who_takes_it_in_until_it_is_silent_for_too_long(open_repository):
    a, b = open_repository("a"), open_repository("b")
    for one in (a, b):
        await one.holding.keep(NOW)
    record = await create(a)
    assert list(a.holding) == [record.id]
    await b.holding.keep(later(11))
    assert len(b.holding) == 0
    assert [pair[0].id for pair in await a.held()] == [record.id]
    await a.holding.keep(later(11))
    await b.holding.keep(later(17))
    assert len(b.holding) == 0, "it was renewed"
    await b.holding.keep(later(11 + 11))
    assert len(b.holding) == 0, "clocks may differ"
    await b.holding.keep(later(11 + 13))
    assert list(b.holding) == [record.id]
    assert await a.held() == ()


async def test_who_was_overtaken_writes_nothing_more(open_repository):
    a, b = open_repository("a"), open_repository("b")
    record = await create(a)
    assert a.holding.young(record.id, later(5))
    assert not a.holding.young(record.id, later(10))
    assert (await condition(a, record, "mine", fence=a.holding.fence(record.id))) is not None
    await b.holding.keep(later(20))
    with pytest.raises(Overtaken):
        await condition(a, record, "late", fence=a.holding.fence(record.id))
    assert (await condition(b, record, "theirs", fence=b.holding.fence(record.id))) is not None
    assert (await condition(a, record, "a container's")) is not None, "what containers say needs no holder"
    assert [one.name for one in (await b.current(record.id))[0].conditions] == ["mine", "theirs", "a container's"]
    await a.holding.renew(later(20))
    assert len(a.holding) == 0
    with pytest.raises(Overtaken):
        a.holding.fence(record.id)


async def test_who_comes_back_has_its_own_jobs_at_once(open_repository):
    first = open_repository("a")
    record = await create(first)
    before = first.holding.fence(record.id)
    again, other = open_repository("a"), open_repository("b")
    await other.holding.keep(later(1))
    await again.holding.keep(later(1))
    assert (list(again.holding), list(other.holding)) == ([record.id], [])
    assert again.holding.fence(record.id) > before, "a process of that name that still lives writes nothing more"


async def test_what_is_given_up_is_taken_at_once_and_what_has_ended_never(open_repository):
    a, b = open_repository("a"), open_repository("b")
    record, over = await create(a), await create(a)
    await ended(a, over)
    await b.holding.keep(NOW)
    await a.holding.release()
    assert len(a.holding) == 0
    await b.holding.keep(later(2))
    assert list(b.holding) == [record.id]
    await ended(b, record)
    await b.holding.renew(later(3))
    assert len(b.holding) == 0


async def test_jobs_are_shared_out_oldest_first_and_none_to_two(open_repository):
    gone, *gateways = [open_repository(name) for name in ("gone", "a", "b", "c")]
    made = [(await create(gone, created=later(n / 1000))).id for n in range(250)]
    for gateway in gateways:
        await gateway.holding.keep(NOW)
    await asyncio.gather(*(gateway.holding.keep(later(60)) for gateway in gateways))
    assert set(made[:100]) <= {held for gateway in gateways for held in gateway.holding}
    for _ in range(3):
        await asyncio.gather(*(gateway.holding.keep(later(60)) for gateway in gateways))
    held = [one for gateway in gateways for one in gateway.holding]
    assert sorted(held) == sorted(made)


async def test_a_job_that_is_taken_in_while_others_are_renewed_stays(repository):
    made = [await create(repository) for _ in range(5)]
    more = await asyncio.gather(
        *(create(repository, created=later(5)) for _ in range(10)),
        repository.holding.renew(later(5)),
        *(create(repository, created=later(5)) for _ in range(10)),
    )
    assert set(repository.holding) == {one.id for one in (*made, *more) if one is not None}


async def test_nothing_is_asked_of_the_database_between_renewals(repository):
    await repository.holding.keep(NOW)
    await create(repository)
    asked = []
    kept = repository._database.write
    repository._database.write = lambda *given: asked.append(given) or kept(*given)
    for tenths in range(14):
        await repository.holding.keep(later(tenths / 10))
    assert asked == []
    await repository.holding.keep(later(1.5))
    assert len(asked) == 1, "a look for jobs that nobody holds"
    await repository.holding.keep(later(3.1))
    assert len(asked) == 3, "another, and a renewal"
