"""Staging by the SDK: sums in one pass, parts at once, gone on with, asked for anew; at a gateway over real HTTP."""

import asyncio
import hashlib
import threading
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import numpy as np
import pytest

from flaregate import flows
from flaregate.errors import GatewayUnavailable, Refused
from flaregate.payload import encode_array, staged
from flaregate.sums import cut, part_size, summed
from flaregate.transport.links import AsyncLink, Link
from flaregate_wire.limits import PART_BYTES, PART_FLOOR, PARTS
from tests.gateway.conftest import TOKEN
from tests.served import served

PIECES = [bytes([number]) * PART_BYTES for number in range(5)] + [b"the end"]


def sum_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def large():
    item = staged("a/b", *PIECES)
    assert [part.sha256 for part in item.parts] == [sum_of(piece) for piece in PIECES]
    return item


class Puts:
    """Counts what is sent to the store, and who is answered what, as an ASGI middleware."""

    def __init__(self, app, seen):
        self.app, self.seen = app, seen

    async def __call__(self, scope, receive, send):
        put = scope["type"] == "http" and scope["method"] == "PUT"

        async def told(message):
            if put and message["type"] == "http.response.start":
                self.seen[message["status"]] += 1
            await send(message)

        await self.app(scope, receive, told)


@asynccontextmanager
async def counted(folder):
    async with served(folder) as gateway:
        gateway.puts = Counter()
        gateway.app.add_middleware(Puts, seen=gateway.puts)
        yield gateway


class Faulty(httpx.BaseTransport):
    """Sends, unless the next fault says otherwise: an answer, or an error to raise."""

    def __init__(self, *faults):
        self.faults = list(faults)
        self.network = httpx.HTTPTransport()
        self.lock = threading.Lock()

    def handle_request(self, request):
        if request.method == "PUT":
            with self.lock:
                fault = self.faults.pop(0) if self.faults else None
            if isinstance(fault, Exception):
                raise fault
            if fault is not None:
                return httpx.Response(fault, text="<Error/>", request=request)
        return self.network.handle_request(request)

    def close(self):
        self.network.close()


async def stage(gateway, item, *faults, told=None):
    def work():
        link = Link(gateway.url, TOKEN, transport=Faulty(*faults))
        try:
            link.run(flows.staging(item, lambda _, done: told.append(done) if told is not None else None))
        finally:
            link.close()

    await asyncio.to_thread(work)


async def is_staged(gateway, item):
    blob = (await gateway.repository.blobs("default", [item.sha256]))[item.sha256]
    whole = hashlib.sha256()
    async for piece in gateway.store.get(blob.key):
        whole.update(piece)
    return blob.complete and f"sha256:{whole.hexdigest()}" == item.sha256


def test_sums_of_parts_are_those_of_the_bytes():
    data = np.random.default_rng(0).bytes(PART_BYTES * 2 + 5)
    found = summed([data[:7], memoryview(data)[7 : PART_BYTES + 1], b"", data[PART_BYTES + 1 :]], floor=0)
    assert (found.size, found.sha256) == (len(data), sum_of(data))
    parts = [data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES)]
    assert [(part.size, part.sha256) for part in found.parts] == [(len(part), sum_of(part)) for part in parts]


def test_small_things_have_no_parts():
    assert summed([b"x" * 1000]).parts == ()
    assert summed([]).size == 0


@pytest.mark.parametrize("size", [PART_FLOOR, 2 * 1024**3, 50 * 1024**3])
def test_parts_are_large_enough_and_not_too_many(size):
    each = part_size(size)
    assert each >= PART_BYTES
    assert -(-size // each) <= PARTS // 10


def test_cut_gives_the_bytes_between():
    chunks = [b"abc", b"", memoryview(b"defgh"), b"i"]
    whole = b"abcdefghi"
    for start in range(10):
        for stop in range(start, 10):
            pieces = list(cut(chunks, start, stop, 2))
            assert b"".join(pieces) == whole[start:stop]
            assert all(0 < len(piece) <= 2 for piece in pieces)


def test_a_mapped_array_is_summed_where_it_lies(tmp_path):
    array = np.memmap(tmp_path / "a", dtype="f8", mode="w+", shape=(PART_FLOOR // 8,))
    array[::1000] = 1.5
    item = encode_array(array)
    assert np.shares_memory(np.frombuffer(item.chunks[1], "u1"), array)
    assert len(item.parts) == 5
    assert sum(part.size for part in item.parts) == item.size


async def test_parts_are_sent_once_and_a_second_time_nothing(tmp_path):
    item, told = large(), []
    async with counted(tmp_path) as gateway:
        await stage(gateway, item, told=told)
        assert gateway.puts == {204: 6}
        assert told[-1] == max(told) == item.size
        await stage(gateway, item)
        assert gateway.puts == {204: 6}
        assert await is_staged(gateway, item)


async def test_a_small_thing_is_sent_by_one_request(tmp_path):
    item = staged("a/b", b"small")
    async with counted(tmp_path) as gateway:
        await stage(gateway, item)
        await stage(gateway, item)
        assert gateway.puts == {204: 1}


async def test_each_part_is_repeated_alone(tmp_path):
    item = large()
    async with counted(tmp_path) as gateway:
        await stage(gateway, item, None, httpx.ReadError("cut"), 503, None)
        assert gateway.puts == {204: 6}
        assert await is_staged(gateway, item)


async def test_requests_that_are_too_old_are_asked_for_anew_and_the_rest_is_kept(tmp_path):
    item, told = large(), []
    async with counted(tmp_path) as gateway:
        await stage(gateway, item, None, None, 403, 403, 403, told=told)
        assert gateway.puts == {204: 6}
        assert told[-1] == item.size
        assert await is_staged(gateway, item)


async def test_an_upload_that_the_store_forgot_is_begun_anew(tmp_path):
    item = large()
    async with counted(tmp_path) as gateway:
        with pytest.raises(Refused, match="403"):
            await stage(gateway, item, None, *[403] * 100)
        blob = (await gateway.repository.blobs("default", [item.sha256]))[item.sha256]
        await gateway.store.abandon(blob.key, blob.upload)
        gateway.puts.clear()
        await stage(gateway, item)
        assert gateway.puts == {204: 6}


@pytest.mark.parametrize("item", [staged("a/b", b"small"), "large"])
async def test_a_store_that_refuses_for_ever_is_told_by_its_own_words(tmp_path, item):
    async with counted(tmp_path) as gateway:
        with pytest.raises(Refused, match="403 Forbidden"):
            await stage(gateway, large() if item == "large" else item, *[403] * 1000)


async def test_a_fault_of_the_store_is_the_gateways(tmp_path):
    async with counted(tmp_path) as gateway:
        with pytest.raises(GatewayUnavailable, match="501"):
            await stage(gateway, staged("a/b", b"small"), 501)


async def test_two_at_once_both_end_well(tmp_path):
    item = large()
    async with counted(tmp_path) as gateway:
        await asyncio.gather(stage(gateway, item), stage(gateway, item))
        assert await is_staged(gateway, item)


async def test_the_awaiting_client_does_the_same(tmp_path):
    item, told = large(), []
    async with counted(tmp_path) as gateway:
        link = AsyncLink(gateway.url, TOKEN)
        await link.run(flows.staging(item, lambda _, done: told.append(done)))
        assert gateway.puts == {204: 6}
        assert told[-1] == item.size
        damaged = replace(item, sha256=sum_of(b"other"), chunks=(*PIECES[:-1], b"THE END"))
        with pytest.raises(Refused, match="bytes are not those"):
            await link.run(flows.staging(damaged, lambda *_: None))
        await link.close()
