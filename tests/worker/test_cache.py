"""The driver's cache against a real gateway over HTTP: found again, bounded in requests, never trusted, never fatal."""

import asyncio
import json
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flaregate_wire.blobs import Transfer
from tests.served import served
from worker_image import cache_requests
from worker_image.cache import CacheAccess, Entry, GatewayCache, NoCache
from worker_image.cache_keeper import FLUSH_SECONDS

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.fixture
async def gateway(tmp_path):
    async with served(tmp_path / "gateway") as gateway:
        yield gateway


@pytest.fixture
def opened(gateway, tmp_path):
    """The cache of a new job's head."""
    made = []

    async def opened(job=None, mode="on", patience=1.0, drops=None, **more):
        job = job or await gateway.submit(**more)
        head = await gateway.head(job)
        who = {"url": gateway.url, "attempt": head.attempt, "token": head.token}
        access = CacheAccess(**who, mode=mode, patience=patience, drops=drops)
        made.append(Sideways(GatewayCache(access, tmp_path / f"cache-{len(made)}"), head, job))
        return made[-1]

    return opened


class Sideways:
    """A cache that blocks in threads of its own, because the gateway of these tests runs in this loop."""

    def __init__(self, cache, head, job):
        self.cache, self.head, self.job = cache, head, job
        self.threads = ThreadPoolExecutor(4)

    async def _aside(self, call, *given):
        return await asyncio.get_running_loop().run_in_executor(self.threads, call, *given)

    def keep(self, *given):
        self.cache.keep(*given)

    async def lookup(self, *shelves):
        return await self._aside(self.cache.lookup, list(shelves))

    async def fetch(self, entry, path):
        return await self._aside(self.cache.fetch, entry, path)

    async def close(self):
        await self._aside(self.cache.close)
        self.threads.shutdown()


def objects(gateway, content=None):
    """Files of the folder store that are the cache's."""
    root = gateway.store._objects / "tenants" / "default" / "cache"
    return [path for path in root.rglob("*") if path.is_file() and (content is None or content in path.read_bytes())]


async def test_a_later_job_finds_what_an_earlier_one_kept(opened, tmp_path):
    first = await opened()
    large = tmp_path / "large"
    large.write_bytes(os.urandom(3_000_000))
    report = {"scores": {"r2": [0.1, 1 / 3]}, "worst": -math.inf, "name": "ein Ä", "none": None}
    first.keep(A, "k1", report)
    first.keep(A, "k2", {"n": 1}, large)
    first.keep(B, "k1", {"n": 2})
    data = large.read_bytes()
    large.unlink()  # it is the caller's
    await first.close()
    second = await opened()
    found = await second.lookup(A, "nothing", B)
    assert set(found) == {A, B}
    assert found[A]["k1"] == Entry(report, None, first.job)
    assert found[B] == {"k1": Entry({"n": 2}, None, first.job)}
    assert await second.fetch(found[A]["k2"], tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == data
    assert not await second.fetch(found[A]["k1"], tmp_path / "none")
    await second.close()


async def test_of_entries_with_one_key_the_first_counts(opened):
    for number in range(3):
        cache = await opened()
        cache.keep(A, "k", {"n": number})
        cache.keep(A, "k", {"n": number + 10})
        await cache.close()
    last = await opened()
    assert (await last.lookup(A))[A]["k"].report == {"n": 0}
    await last.close()


async def test_the_next_attempt_finds_what_the_lost_one_flushed(gateway, opened):
    first = await opened()
    first.keep(A, "k", {"n": 1})
    await asyncio.sleep(FLUSH_SECONDS[0] + 0.5)
    gateway.launcher.end(f"{first.job}-1", 0, 137)
    second = await gateway.head(first.job, number=2)
    access = CacheAccess(url=gateway.url, attempt=second.attempt, token=second.token, patience=1)
    cache = Sideways(GatewayCache(access, first.cache._folder.parent / "second"), second, first.job)
    assert (await cache.lookup(A))[A]["k"] == Entry({"n": 1}, None, first.job)
    first.keep(A, "late", {"n": 2})
    await first.close()
    assert set((await cache.lookup(A))[A]) == {"k"}, "an attempt that is over adds nothing"
    await cache.close()


async def test_requests_are_counted_and_few(opened):
    cache = await opened()
    for number in range(20_000):
        cache.keep(f"shelf-{number % 50}", f"k{number}", {"score": number / 7, "fit_time": 0.001})
    await cache.close()
    flushes = 2  # by time at most one while this was packed, and the last one
    assert cache.cache.requests <= 3 * flushes
    reader = await opened()
    found = await reader.lookup(*(f"shelf-{number}" for number in range(2500)))
    assert sum(map(len, found.values())) == 20_000
    assert found["shelf-3"]["k53"].report["score"] == 53 / 7
    assert reader.cache.requests <= 3 + flushes, "three batches of shelves, and each segment once"
    await reader.lookup("shelf-1", "shelf-2")
    assert reader.cache.requests <= 4 + flushes, "segments are not downloaded again"
    await reader.close()


async def test_each_file_costs_two_requests_and_is_there_before_its_entry(gateway, opened, tmp_path):
    cache = await opened()
    for number in range(10):
        path = tmp_path / f"large-{number}"
        path.write_bytes(b"%d" % number * 1000)
        cache.keep(A, f"k{number}", {}, path)
    await cache.close()
    assert cache.cache.requests == 10 * 2 + 3
    reader = await opened()
    entries = (await reader.lookup(A))[A]
    fetched = await asyncio.gather(*(reader.fetch(entry, tmp_path / key) for key, entry in entries.items()))
    assert fetched == [True] * 10
    assert {(tmp_path / f"k{number}").read_bytes() for number in range(10)} == {b"%d" % n * 1000 for n in range(10)}
    await reader.close()
    assert list(cache.cache._folder.iterdir()) == []


@pytest.mark.parametrize("one_file_system", [True, False])
async def test_on_the_gateways_machine_a_file_is_handed_over_and_not_sent(
    gateway, opened, tmp_path, monkeypatch, one_file_system
):
    if not one_file_system:
        link = os.link
        monkeypatch.setattr(
            cache_requests.os, "link", lambda path, to: link(path, to if "drops" not in str(to) else "")
        )
    drops = gateway.store._drops
    cache = await opened(drops=drops)
    large = tmp_path / "large"
    large.write_bytes(os.urandom(1000))
    cache.keep(A, "k", {}, large)
    await cache.close()
    assert cache.cache.requests == 2 + 3, "as many as with its bytes"
    (path,) = objects(gateway, large.read_bytes())
    assert path.samefile(large) == one_file_system
    assert path.stat().st_nlink == 1 + one_file_system
    assert list(drops.iterdir()) == list(cache.cache._folder.iterdir()) == []
    reader = await opened()
    assert await reader.fetch((await reader.lookup(A))[A]["k"], tmp_path / "fetched")
    await reader.close()


async def test_what_cannot_be_handed_over_is_sent(gateway, opened, tmp_path, caplog):
    (tmp_path / "elsewhere").mkdir()
    for number, drops in enumerate([tmp_path / "nowhere", tmp_path / "elsewhere"]):
        cache = await opened(drops=drops)
        large = tmp_path / "large"
        large.write_bytes(b"%d" % number * 1000)
        cache.keep(A, f"k{number}", {}, large)
        await cache.close()
        assert len(objects(gateway, large.read_bytes())) == 1
        assert caplog.text.count("cannot be handed over") == number + 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


async def test_a_file_is_not_handed_over_to_a_store_with_addresses_of_its_own(opened, tmp_path, monkeypatch):
    drops, sent = tmp_path / "drops", []
    cache = await opened(drops=drops)
    place = Transfer(method="PUT", url="http://store.test/k")
    monkeypatch.setattr(cache.cache._requests, "_place", lambda sha256: ("k", place))
    monkeypatch.setattr(cache.cache._requests, "_put", lambda transfer, size, chunks: sent.append((transfer, size)))
    large = tmp_path / "large"
    large.write_bytes(b"x" * 1000)
    assert cache.cache._requests.write_file(large).size == 1000
    assert sent == [(place, 1000)]
    await cache.close()


async def test_a_corrupt_segment_is_as_if_absent(gateway, opened, caplog):
    bad, good = await opened(), None
    bad.keep(A, "k", {"n": "bad"})
    await bad.close()
    good = await opened()
    good.keep(A, "k", {"n": "good"})
    good.keep(B, "k", {"n": "good"})
    await good.close()
    (segment,) = objects(gateway, b'"bad"')
    segment.write_bytes(segment.read_bytes().replace(b"bad", b"bag"))
    reader = await opened()
    found = await reader.lookup(A, B)
    assert found[A]["k"].report == {"n": "good"}
    assert "left out" in caplog.text
    segment.write_bytes(segment.read_bytes()[:-5])
    assert (await reader.lookup(A))[A]["k"].report == {"n": "good"}
    for path in objects(gateway, b'"good"'):
        path.unlink()
    fresh = await opened()
    assert await fresh.lookup(A, B) == {}
    await reader.close()
    await fresh.close()


async def test_corrupt_lines_and_lines_of_other_shelves_are_left_out(opened, caplog):
    head = await opened()
    lines = [
        {"shelf": A, "key": "k1", "report": {"n": 1}},
        {"shelf": A, "key": "k2"},
        {"shelf": A, "key": "k3", "report": [1]},
        {"shelf": A, "key": "k4", "report": {}, "blob": {"key": "x"}},
        {"shelf": B, "key": "k5", "report": {}},
        {"shelf": A, "key": "k6", "report": {"n": 6}, "newer": "field"},
    ]
    data = b"\n".join([*(json.dumps(line).encode() for line in lines), b'{"shelf": "', b"\xff\xfe", b"null"])
    keeper = head.cache._keeper
    segment = await asyncio.to_thread(keeper._bytes, data)
    await asyncio.to_thread(keeper._register, [(A, segment)], ())
    assert {key: entry.report for key, entry in (await head.lookup(A, B))[A].items()} == {
        "k1": {"n": 1},
        "k6": {"n": 6},
    }
    assert B not in await head.lookup(A, B), "the segment is not on that shelf"
    assert "6 lines" in caplog.text
    await head.close()


async def test_a_large_result_that_is_gone_or_corrupt_is_not_fetched(gateway, opened, tmp_path):
    cache = await opened()
    large = tmp_path / "large"
    large.write_bytes(b"x" * 1000)
    cache.keep(A, "k", {}, large)
    await cache.close()
    reader = await opened()
    entry = (await reader.lookup(A))[A]["k"]
    (path,) = objects(gateway, b"x" * 1000)
    for broken in (b"y" * 1000, b"x" * 999, b"x" * 1001):
        path.write_bytes(broken)
        assert not await reader.fetch(entry, tmp_path / "fetched")
        assert not (tmp_path / "fetched").exists()
    path.unlink()
    assert not await reader.fetch(entry, tmp_path / "fetched")
    await gateway.service.cache.forget("default", cache.job)
    assert not await reader.fetch(entry, tmp_path / "fetched")
    await reader.close()


async def test_a_gateway_that_is_away_costs_its_patience_once(opened, tmp_path):
    access = CacheAccess(url="http://127.0.0.1:9", attempt="job-1-1", token="t", patience=0.5)
    cache = GatewayCache(access, tmp_path / "scratch")
    start = time.monotonic()
    assert await asyncio.to_thread(cache.lookup, [A]) == {}
    first = time.monotonic() - start
    for _ in range(10):
        assert await asyncio.to_thread(cache.lookup, [A]) == {}
    assert time.monotonic() - start < first + 3, "ten times its patience are five seconds"
    assert first < 5
    cache.keep(A, "k", {"n": 1})
    await asyncio.to_thread(cache.close)
    assert time.monotonic() - start < first + 8


async def test_a_gateway_that_hangs_holds_the_end_up_for_some_seconds_at_most(tmp_path):
    released = asyncio.Event()

    async def silent(reader, writer):
        await released.wait()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        cache = GatewayCache(CacheAccess(url=url, attempt="job-1-1", token="t", closing=1), tmp_path / "scratch")
        cache.keep(A, "k", {"n": 1})
        start = time.monotonic()
        await asyncio.to_thread(cache.close)
        assert time.monotonic() - start < 10
        released.set()


async def test_a_job_that_only_reads_sends_nothing(opened):
    writer = await opened()
    writer.keep(A, "k", {"n": 1})
    await writer.close()
    reader = await opened(mode="read", cache="read")
    reader.keep(A, "k2", {"n": 2})
    assert set((await reader.lookup(A))[A]) == {"k"}
    await reader.close()
    assert reader.cache.requests == 2


async def test_another_project_finds_nothing(opened):
    mine = await opened()
    mine.keep(A, "k", {"n": 1})
    await mine.close()
    theirs = await opened(project="another")
    assert await theirs.lookup(A) == {}
    await theirs.close()


async def test_what_is_not_json_is_refused_at_once_and_nothing_is_kept_after_the_end(opened):
    cache = await opened()
    with pytest.raises(ValueError, match="not JSON"):
        cache.keep(A, "k", {"object": object()})
    cache.keep(A, "lost", {}, Path("/nowhere/at/all"))
    await cache.close()
    cache.keep(A, "k", {"n": 1})
    cache.cache.close()
    reader = await opened()
    assert await reader.lookup(A) == {}
    await reader.close()


def test_no_cache_knows_nothing(tmp_path):
    cache = NoCache()
    cache.keep(A, "k", {"n": 1})
    assert cache.lookup([A]) == {}
    assert not cache.fetch(Entry({}, None, "job"), tmp_path / "x")
    cache.close()
