"""The cache over HTTP: who reads and writes what, what outlives a job, what is removed and when."""

import asyncio
import hashlib
import json
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from flaregate_wire.attempts import CacheFetch, CacheKeep, CacheLookup
from gateway.jobs.keys import Container
from gateway.jobs.tables import metadata
from gateway.stores.base import ObjectMissing
from tests.servers.databases import BOTH

DATABASES = BOTH

SHELF, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


class Head:
    """A head that keeps and looks up."""

    def __init__(self, gateway, container):
        self.gateway, self.container = gateway, container

    async def ask(self, name, **body):
        path = f"/v1/attempts/{self.container.attempt}/cache:{name}"
        shown = {"Authorization": f"Bearer {self.container.token}"}
        return await self.gateway.anonymous.post(path, json=body, headers=shown)

    async def write(self, data):
        sha256 = hashlib.sha256(data).hexdigest()
        key = await self.container.write(f"cache/{sha256}", data)
        return {"key": key, "size": len(data), "sha256": f"sha256:{sha256}"}

    async def keep(self, *shelves, data=b"a line\n", large=()):
        segment = await self.write(data)
        objects = [await self.write(item) for item in large]
        answer = await self.ask("keep", segments=[[shelf, segment] for shelf in shelves], objects=objects)
        assert answer.status_code == 204, answer.text
        return segment, *objects

    async def found(self, *shelves):
        """(shelf, bytes, job) of each segment."""
        answer = await self.ask("lookup", shelves=shelves)
        assert answer.status_code == 200, answer.text
        return [
            (item["shelf"], (await self.gateway.anonymous.get(item["get"]["url"])).content, item["job"])
            for item in answer.json()["segments"]
        ]

    async def fetch(self, *keys):
        return (await self.ask("fetch", keys=keys)).json()["get"]


@pytest.fixture
def begin(gateway):
    """A job with a head that runs."""

    async def begin(**more):
        job = await gateway.submit(**more)
        return Head(gateway, await gateway.head(job)), job

    return begin


async def there(gateway, item):
    try:
        return (await gateway.store.head(item["key"])).size == item["size"]
    except ObjectMissing:
        return False


async def test_a_later_job_finds_what_an_earlier_one_kept(gateway, begin):
    first, made = await begin()
    kept = await first.keep(SHELF, OTHER, large=[b"a fitted state"])
    second, _ = await begin()
    assert await second.found(SHELF, "sha256:" + "c" * 64) == [(SHELF, b"a line\n", made)]
    assert [shelf for shelf, *_ in await second.found(OTHER, SHELF)] in ([SHELF, OTHER], [OTHER, SHELF])
    get = await second.fetch(kept[1]["key"], "tenants/default/cache/default/nobody/" + "0" * 64)
    assert list(get) == [kept[1]["key"]]
    assert (await gateway.anonymous.get(get[kept[1]["key"]]["url"])).content == b"a fitted state"


async def test_segments_come_oldest_first_and_keeping_again_adds_nothing(begin):
    head, _ = await begin()
    for data in (b"z first", b"a second", b"z first"):
        await head.keep(SHELF, data=data)
    assert [data for _, data, _ in await head.found(SHELF)] == [b"z first", b"a second"]


async def test_entries_stay_within_their_project(begin):
    mine, _ = await begin()
    kept = await mine.keep(SHELF, large=[b"large"])
    theirs, _ = await begin(project="another")
    assert await theirs.found(SHELF) == []
    assert await theirs.fetch(kept[1]["key"]) == {}
    assert len(await mine.found(SHELF)) == 1


async def test_entries_stay_within_their_tenant(gateway, begin, definition):
    mine, _ = await begin()
    segment, large = await mine.keep(SHELF, large=[b"large"])
    view, _ = await gateway.service.submit("other", json.dumps(definition).encode(), None)
    head = await gateway.head(view.id)
    who = Container(head.attempt, 0, head.boot)
    cache = gateway.service.cache
    assert (await cache.lookup(who, CacheLookup(shelves=(SHELF,)))).segments == ()
    assert (await cache.fetch(who, CacheFetch(keys=(large["key"],)))).get == {}
    refused = await Head(gateway, head).ask("keep", segments=[[SHELF, segment]])
    assert refused.json()["code"] == "invalid_request"
    await Head(gateway, head).keep(SHELF, data=b"theirs")
    assert [data for _, data, _ in await mine.found(SHELF)] == [b"a line\n"]
    assert (await cache.forget("other", mine.container.attempt.rpartition("-")[0])).objects == 0
    assert await there(gateway, segment)


async def test_an_attempt_keeps_only_what_it_wrote_itself(begin):
    first, _ = await begin()
    second, _ = await begin()
    segment = await first.write(b"a line\n")
    assert (await second.ask("keep", segments=[[SHELF, segment]])).json()["code"] == "invalid_request"
    longer = segment | {"size": segment["size"] + 1}
    assert (await first.ask("keep", segments=[[SHELF, longer]])).json()["code"] == "blob_mismatch"
    other = segment | {"sha256": "sha256:" + "1" * 64}
    assert (await first.ask("keep", segments=[[SHELF, other]])).json()["code"] == "invalid_request"
    absent = other | {"key": segment["key"][:-64] + "1" * 64}
    assert (await first.ask("keep", segments=[], objects=[absent])).json()["code"] == "not_found"
    assert await first.found(SHELF) == []


async def test_an_object_has_the_bytes_of_its_name_and_is_written_once(gateway, begin):
    head, _ = await begin()
    sha256 = hashlib.sha256(b"right").hexdigest()
    shown = {"Authorization": f"Bearer {head.container.token}"}
    path = f"/v1/attempts/{head.container.attempt}/objects"
    answer = await gateway.anonymous.post(path, json={"put": [f"cache/{sha256}"]}, headers=shown)
    ((_, put),) = answer.json()["put"]
    wrong = await gateway.anonymous.put(put["url"], content=b"wrong", headers=put["headers"])
    assert wrong.json()["code"] == "blob_mismatch"
    for _ in range(2):
        assert (await gateway.anonymous.put(put["url"], content=b"right", headers=put["headers"])).status_code == 204
    for name in ("cache/x", f"cache/../{sha256}", f"cache/{sha256}/x", "cache/"):
        refused = await gateway.anonymous.post(path, json={"put": [name]}, headers=shown)
        assert refused.json()["code"] == "invalid_request"


@pytest.mark.parametrize("mode", ["read", "off"])
async def test_a_job_that_only_reads_keeps_nothing(gateway, begin, mode):
    writer, made = await begin()
    segment, *_ = await writer.keep(SHELF)
    reader, _ = await begin(cache=mode)
    assert [job for *_, job in await reader.found(SHELF)] == [made]
    refused = await reader.ask("keep", segments=[[SHELF, segment]])
    assert refused.json()["code"] == "invalid_request"
    assert mode in refused.json()["detail"]
    shown = {"Authorization": f"Bearer {reader.container.token}"}
    path = f"/v1/attempts/{reader.container.attempt}/objects"
    answer = await gateway.anonymous.post(path, json={"put": ["cache/" + "0" * 64]}, headers=shown)
    assert answer.json()["code"] == "invalid_request"


async def test_only_the_head_keeps_and_only_while_its_attempt_lives(gateway, begin):
    head, job = await begin()
    segment, *_ = await head.keep(SHELF)
    worker = Head(gateway, await gateway.head(job, index=1, boot="w1"))
    assert (await worker.ask("keep", segments=[[SHELF, segment]])).json()["code"] == "boot_conflict"
    await head.container.commit()
    await gateway.ended(job)
    for name, body in (("keep", {"segments": []}), ("lookup", {"shelves": []}), ("fetch", {"keys": []})):
        assert (await head.ask(name, **body)).json()["code"] == "attempt_over"


async def test_what_a_job_kept_outlives_it(gateway, begin):
    head, job = await begin()
    await head.keep(SHELF)
    await head.container.commit()
    await gateway.ended(job)
    assert (await gateway.http.delete(f"/v1/jobs/{job}")).status_code == 204
    later, _ = await begin()
    assert await later.found(SHELF) == [(SHELF, b"a line\n", job)]


async def test_all_that_a_job_made_can_be_removed(gateway, begin):
    bad, job = await begin()
    gone = await bad.keep(SHELF, OTHER, data=b"bad", large=[b"bad and large"])
    good, made = await begin()
    await good.keep(SHELF, data=b"good")
    answer = await gateway.http.delete("/v1/cache", params={"job": job})
    assert answer.json() == {"objects": 2, "size": 16}
    assert await good.found(SHELF, OTHER) == [(SHELF, b"good", made)]
    assert not any([await there(gateway, item) for item in gone])
    assert (await gateway.http.delete("/v1/cache", params={"job": job})).json() == {"objects": 0, "size": 0}
    assert (await gateway.http.delete("/v1/cache")).status_code == 422
    await bad.keep(SHELF, data=b"again")
    assert len(await good.found(SHELF)) == 2


async def test_over_the_limit_goes_what_was_not_used_for_longest(deploy):
    gateway = deploy(cache_bytes=30)
    head = Head(gateway, await gateway.head(await gateway.submit()))
    segment, large = await head.keep(SHELF, data=b"0123456789", large=[b"abcdefghij"])
    gateway.clock.pass_by(1)
    (unused,) = await head.keep(OTHER, data=b"9876543210")
    await gateway.service.cache.trim()
    assert len(await head.found(SHELF)) == 1, "at the limit nothing goes"
    gateway.clock.pass_by(1)
    await head.found(SHELF)
    await head.fetch(large["key"])
    gateway.clock.pass_by(1)
    (new,) = await head.keep(SHELF, data=b"new")
    await gateway.service.cache.trim()
    assert [await there(gateway, item) for item in (segment, large, unused, new)] == [True, True, False, True]
    assert await head.found(OTHER) == []
    assert len(await head.found(SHELF)) == 2


async def test_the_limit_is_held_in_the_background(deploy):
    gateway = deploy(cache_bytes=5)
    head = Head(gateway, await gateway.head(await gateway.submit()))
    (item,) = await head.keep(SHELF, data=b"more than five bytes")
    running = asyncio.create_task(gateway.service.cache.run())
    for _ in range(200):
        if not await there(gateway, item):
            break
        await asyncio.sleep(0.01)
    assert not await there(gateway, item)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_what_was_never_registered_goes_a_day_later(gateway, begin):
    head, job = await begin()
    (kept,) = await head.keep(SHELF)
    stray = await head.write(b"never registered")
    await head.container.commit()
    await gateway.ended(job)
    written = (await gateway.store.head(stray["key"])).modified
    gateway.clock.time = written + timedelta(hours=23)
    await gateway.service.retention.sweep()
    assert await there(gateway, stray)
    gateway.clock.time = written + timedelta(hours=25)
    await gateway.service.retention.sweep()
    assert not await there(gateway, stray)
    assert await there(gateway, kept)


async def test_what_nobody_used_goes_with_its_age(deploy):
    gateway = deploy(policy={"cache_age": 100})
    head = Head(gateway, await gateway.head(await gateway.submit()))
    (used,) = await head.keep(SHELF, data=b"used")
    (old,) = await head.keep(OTHER, data=b"old")
    gateway.clock.pass_by(60)
    await head.found(SHELF)
    gateway.clock.pass_by(60)
    assert await gateway.service.cache.trim(dry_run=True) == [(old["key"], 3)]
    assert await gateway.service.cache.trim() == [(old["key"], 3)]
    assert [await there(gateway, item) for item in (used, old)] == [True, False]


async def test_a_job_has_a_few_rows_however_many_results_it_keeps(gateway, begin):
    head, _ = await begin()
    shelves = [f"shelf-{n}" for n in range(100)]
    await head.keep(*shelves, data=b"a line for each shelf\n" * 10_000)
    tables = [metadata.tables[name] for name in ("cache_objects", "cache_shelves")]
    counts = await gateway.repository._database.read(
        lambda connection: [connection.execute(select(func.count()).select_from(table)).scalar() for table in tables]
    )
    assert counts == [1, 100]


def test_requests_are_bounded():
    for model, field in ((CacheLookup, "shelves"), (CacheFetch, "keys")):
        with pytest.raises(ValueError, match="at most 1000"):
            model(**{field: ["x"] * 1001})
    with pytest.raises(ValueError, match="at most 1000"):
        CacheKeep(segments=[["s", {"key": "k", "size": 0, "sha256": SHELF}]] * 1001)
