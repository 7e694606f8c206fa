"""Events at rest: read like those in the database, moved once or again, lost by no crash."""

import asyncio
import json
from itertools import pairwise

import pytest
from sqlalchemy import func, select

from flaregate_wire.events import NodeEvent
from gateway.jobs import tables as t
from gateway.jobs.archive import INLINE_BYTES, PAGE_BYTES, Archiver, _cut
from gateway.jobs.batches import batch_of
from gateway.stores.base import StoreError
from tests.doubles import TIME, outcome, until
from tests.servers.databases import BOTH

DATABASES = BOTH


async def rows(deployed, job):
    query = select(func.count()).where(t.event_batches.c.job == job)
    return await deployed.repository._database.read(lambda connection: connection.execute(query).scalar())


async def finished(deployed, outcomes=0, size=1000):
    job = await deployed.submit()
    head = await deployed.head(job)
    for start in range(0, outcomes, 500):
        events = [outcome(n, axes=[["pca", "n", "x" * size]]) for n in range(start, min(start + 500, outcomes))]
        assert (await head.send(*events)).status_code == 200
    await head.commit()
    await deployed.ended(job)
    return job


async def all_forms(deployed, job, afters):
    found = []
    for after in afters:
        for accept in ("text/event-stream", "application/x-ndjson"):
            answer = await deployed.http.get(
                f"/v1/jobs/{job}/events", headers={"Accept": accept}, params={"after": after}
            )
            found.append(answer.content)
        found.append((await deployed.http.get(f"/v1/jobs/{job}/results", params={"after": after})).content)
    return found


@pytest.mark.parametrize(("outcomes", "objects"), [(0, 0), (3000, 1)])
async def test_every_form_is_the_same_before_and_after_the_move(gateway, outcomes, objects):
    job = await finished(gateway, outcomes)
    last = (await gateway.view(job)) and (await gateway.events(job))[-1]["id"]
    afters = [0, 1, last // 2, last - 1, last, last + 5]
    before = await all_forms(gateway, job, afters)
    assert await rows(gateway, job) > 0
    await gateway.service.archiver.move_all()
    assert await rows(gateway, job) == 0
    assert await all_forms(gateway, job, afters) == before
    kept = [item async for item in gateway.store.list(f"tenants/default/jobs/{job}/")]
    assert len(kept) == objects
    archived = await gateway.repository.archives.of(job)
    assert (archived.key is None) == (objects == 0)
    assert before[1].count(b"\n") == last
    await gateway.service.archiver.move_all()
    assert await all_forms(gateway, job, afters) == before


async def test_reading_after_an_id_reads_pages_and_no_more_of_the_object(gateway):
    job = await finished(gateway, 5000)
    await gateway.service.archiver.move_all()
    archived = await gateway.repository.archives.of(job)
    size = (await gateway.store.head(archived.key)).size
    assert len(archived.marks) >= size // PAGE_BYTES
    read = []

    def watched(key, *, start=0, stop=None, get=gateway.store.get):
        read.append((start, stop))
        return get(key, start=start, stop=stop)

    gateway.store.get = watched
    answer = await gateway.http.get(f"/v1/jobs/{job}/events", params={"after": 4900})
    assert answer.content.startswith(b": still here\n\nid: 4901\n")
    assert read == [(archived.marks[-1][1], None)]
    assert all(stop - start <= PAGE_BYTES for (_, start), (_, stop) in pairwise(archived.marks))


async def test_a_reader_that_is_behind_goes_on_in_the_object(deploy):
    gateway = deploy()
    job = await finished(gateway, 3000)
    stream = await gateway.service.stream("default", job, 0, "ndjson")
    text = await anext(stream)
    await gateway.service.archiver.move_all()
    async for piece in stream:
        text += piece
    numbers = [json.loads(line)["id"] for line in text.splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert b'"type":"end"' in text


async def test_it_runs_by_itself_when_a_job_ends_and_finds_what_was_left(gateway):
    old = await finished(gateway)
    work = asyncio.create_task(Archiver(gateway.repository, gateway.store).run())

    async def moved(job):
        return await rows(gateway, job) == 0

    await until(lambda: moved(old))
    new = await finished(gateway, 200)
    await until(lambda: moved(new))
    assert (await gateway.events(new))[-1]["type"] == "end"
    work.cancel()


async def test_a_crash_between_object_and_transaction_and_a_store_that_is_away_lose_nothing(gateway):
    job = await finished(gateway, 500)
    before = await all_forms(gateway, job, [0])
    keep, put = gateway.repository.archives.keep, gateway.store.put

    async def crash(*_):
        raise RuntimeError("killed")

    async def away(*_, **__):
        raise StoreError("not now")

    gateway.store.put = away
    await gateway.service.archiver.move_all()
    gateway.store.put = put
    gateway.repository.archives.keep = crash
    await gateway.service.archiver.move_all()
    gateway.repository.archives.keep = keep
    assert await rows(gateway, job) > 0
    assert await all_forms(gateway, job, [0]) == before
    await gateway.service.archiver.move_all()
    assert await all_forms(gateway, job, [0]) == before


async def test_a_job_removed_meanwhile_leaves_no_object(gateway):
    job = await finished(gateway, 500)
    keep = gateway.repository.archives.keep

    async def removed(*given):
        await gateway.http.delete(f"/v1/jobs/{job}")
        return await keep(*given)

    gateway.repository.archives.keep = removed
    await gateway.service.archiver.move_all()
    assert [item async for item in gateway.store.list(f"tenants/default/jobs/{job}/")] == []


async def test_live_jobs_are_left_alone(gateway):
    job = await gateway.submit()
    await gateway.head(job)
    await gateway.service.archiver.move_all()
    assert await rows(gateway, job) > 0


async def test_removing_a_job_removes_its_object(gateway):
    job = await finished(gateway, 500)
    await gateway.service.archiver.move_all()
    assert (await gateway.http.delete(f"/v1/jobs/{job}")).status_code == 204
    assert [item async for item in gateway.store.list(f"tenants/default/jobs/{job}/")] == []
    assert await gateway.repository.archives.of(job) is None


def test_a_large_batch_is_cut_at_lines():
    node = NodeEvent.model_validate({"time": TIME, "node": "x" * 60_000, "fits": 1})
    batch = batch_of([node] * 50, 7)
    parts = list(_cut(batch))
    assert b"".join(part.lines for part in parts) == batch.lines
    assert [part.first for part in parts] == [7, *(part.last + 1 for part in parts[:-1])]
    assert parts[-1].last == batch.last
    assert max(len(part.lines) for part in parts) <= PAGE_BYTES
    assert len(batch.lines) > 2 * PAGE_BYTES > INLINE_BYTES
