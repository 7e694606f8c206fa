"""Event streams: the same bytes after any cuts, for any number of readers, in bounded memory."""

import asyncio
import contextlib
import random
import socket
import statistics
import time

import httpx
import psutil
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from flaregate_wire.events import NodeEvent
from gateway.jobs.batches import batch_of, kind_of
from gateway.jobs.feed import KEPT_BYTES, Channel
from tests import doubles
from tests.doubles import TIME, outcome, progress, until
from tests.gateway.conftest import TOKEN
from tests.servers.databases import BOTH

DATABASES = BOTH


def kept(sse):
    """What a client keeps of a stream: neither comments nor wishes to reconnect, and only whole events."""
    whole = sse[: sse.rfind(b"\n\n") + 2]
    parts = [part + b"\n\n" for part in whole.split(b"\n\n") if part]
    return [part for part in parts if not part.startswith((b":", b"event: reconnect"))]


def last_id(parts, before):
    return int(parts[-1].partition(b"\n")[0].removeprefix(b"id: ")) if parts else before


@contextlib.asynccontextmanager
async def served(deployed):
    """The application on a real socket, where answers come in pieces and can be cut."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(deployed.app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
    server.install_signal_handlers = lambda: None
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    await until(lambda: server.started)
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20) as client:
        yield client
    server.should_exit = True
    await serving
    listening.close()


async def read(client, job, last=0, cut=None):
    """The bytes of a stream until its end, or until a cut after so many of them."""
    got = b""
    async with client.stream("GET", f"/v1/jobs/{job}/events", headers={"Last-Event-ID": str(last)}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for piece in answer.aiter_raw():
            got += piece
            if cut is not None and len(got) >= cut:
                return got[:cut]
    return got


async def resumed(client, job, rng):
    """What a client ends up with that is cut at random bytes again and again."""
    parts, last = [], 0
    while not parts or b"event: end" not in parts[-1]:
        new = kept(await read(client, job, last, rng.choice([None, 1, 57, 300, 1500, 4000])))
        parts += new
        last = last_id(new, last)
    return b"".join(parts)


async def test_bytes_are_the_same_after_cuts_at_random_places(deploy):
    gateway = deploy(heartbeat=0.02, age=0.15)
    async with served(gateway) as client:
        job = await gateway.submit()
        head = await gateway.head(job)
        live = [asyncio.create_task(resumed(client, job, random.Random(seed))) for seed in range(6)]
        for number in range(40):
            await head.send(outcome(number, axes=[["pca", "n", number]]), progress(number))
            await asyncio.sleep(0.01)
        await head.commit()
        texts = await asyncio.gather(*live)
        late = await resumed(client, job, random.Random(9))
        assert set(texts) == {late}
        assert late.count(b"event: outcome\n") == 40
        assert late.endswith(b"\n\n")
        numbers = [int(line[4:]) for line in late.splitlines() if line.startswith(b"id: ")]
        assert numbers == list(range(1, len(numbers) + 1))
        plain = await client.get(f"/v1/jobs/{job}/events", headers={"Accept": "application/x-ndjson"})
        data = [line.removeprefix(b"data: ") for line in late.splitlines() if line.startswith(b"data: ")]
        assert plain.content.splitlines() == data


async def test_a_silent_stream_has_heartbeats_and_asks_to_be_resumed_when_it_is_old(deploy):
    gateway = deploy(heartbeat=0.02, age=0.2)
    async with served(gateway) as client:
        job = await gateway.submit()
        await gateway.head(job)
        text = await read(client, job)
    comments = [line for line in text.splitlines() if line.startswith(b":")]
    assert len(comments) >= 3
    assert text.endswith(b"event: reconnect\ndata: {}\n\n")
    assert b"event: end" not in text


async def test_a_reader_gets_an_event_while_the_job_runs(deploy):
    gateway = deploy()
    async with served(gateway) as client:
        job = await gateway.submit()
        head = await gateway.head(job)
        async with client.stream("GET", f"/v1/jobs/{job}/events") as answer:
            pieces = answer.aiter_raw()
            seen = b""
            while b"state: running" not in seen and b'"running"' not in seen:
                seen += await anext(pieces)
            await head.send(outcome(0))
            while b"event: outcome" not in seen:
                seen += await asyncio.wait_for(anext(pieces), 10)
        await head.commit()
        await gateway.ended(job)


async def test_resuming_after_the_end_ends_at_once(gateway):
    job = await gateway.submit()
    head = await gateway.head(job)
    await head.commit()
    await gateway.ended(job)
    last = (await gateway.events(job))[-1]["id"]
    for after in (last, last + 100):
        answer = await gateway.http.get(f"/v1/jobs/{job}/events", params={"after": after})
        assert kept(answer.content) == []
    one = await gateway.http.get(f"/v1/jobs/{job}/events", params={"after": last - 1})
    assert len(kept(one.content)) == 1


async def test_channels_are_dropped_with_their_last_reader(deploy):
    gateway = deploy()
    async with served(gateway) as client:
        job = await gateway.submit()
        await gateway.head(job)
        reading = [asyncio.create_task(read(client, job)) for _ in range(5)]
        await until(
            lambda: job in gateway.service._feed._channels and gateway.service._feed._channels[job].readers == 5
        )
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        await until(lambda: not gateway.service._feed._channels)


def test_a_channel_keeps_a_bounded_log_and_sends_those_behind_to_the_database():
    channel = Channel()
    node = NodeEvent.model_validate({"time": TIME, "node": "x" * 1000, "fits": 1})
    last = 0
    while last < 3 * KEPT_BYTES / 1100:
        batch = batch_of([node] * 50, last + 1)
        channel.tell(batch)
        last = batch.last
    assert channel.after(0) is None
    assert channel._size <= KEPT_BYTES
    assert [batch.first for batch in channel.after(last - 3)] == [last - 2]
    assert list(channel.after(last)) == []


def test_a_gap_is_never_skipped():
    channel = Channel()
    node = NodeEvent.model_validate({"time": TIME, "node": "x", "fits": 1})
    channel.tell(batch_of([node], 1))
    channel.tell(batch_of([node], 5))
    assert channel.after(1) is None
    assert channel.after(4)[0].first == 5


@given(
    st.lists(st.sampled_from(["outcome", "progress"]), min_size=1, max_size=8), st.integers(0, 12), st.integers(1, 99)
)
def test_a_batch_is_cut_at_any_event(kinds, skip, first):
    from flaregate_wire.events import EVENT

    events = [EVENT.validate_python(outcome(0) if kind == "outcome" else progress(1)) for kind in kinds]
    batch = batch_of(events, first)
    cut = batch.after(first + skip - 1)
    assert cut.lines == b"".join(batch.lines.splitlines(keepends=True)[skip:])
    assert [kind_of(line).decode() for line in batch.lines.splitlines()] == kinds
    assert batch.outcomes.count(b"\n") == kinds.count("outcome")
    assert batch.sse.count(b"\n\n") == len(kinds)


@pytest.mark.parametrize("accept", ["text/csv", "image/png"])
async def test_other_forms_are_not_made(gateway, accept):
    job = await gateway.submit()
    answer = await gateway.http.get(f"/v1/jobs/{job}/events", headers={"Accept": accept})
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")


async def test_a_tenant_has_so_many_streams_and_a_place_is_free_when_one_ends(deploy):
    gateway = deploy(most=3)
    async with served(gateway) as client:
        job = await gateway.submit()
        head = await gateway.head(job)
        limits = {limit["name"]: limit["value"] for limit in (await client.get("/v1/limits")).json()}
        assert limits["streams"] == 3
        paths = [f"/v1/jobs/{job}/{rest}" for rest in ("events", "results", "logs?follow=true")]
        async with contextlib.AsyncExitStack() as reading:
            for path in paths:
                answer = await reading.enter_async_context(client.stream("GET", path))
                assert answer.status_code == 200
            for path in paths:
                refused = await client.get(path)
                assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
                assert refused.headers["retry-after"] == "1"
                assert "limit streams is 3" in refused.json()["detail"]
            assert (await client.get(f"/v1/jobs/{job}/logs")).status_code == 200, (
                "one that ends by itself needs no place"
            )
        await head.commit()  # what a client has left is noticed at the next word
        await until(lambda: not gateway.app.state.places._taken)
        assert (await client.get(paths[0])).status_code == 200


async def test_hundreds_of_idle_streams_cost_little_and_submitting_stays_quick(deploy):
    gateway = deploy(doubles.SlowLauncher())
    count = 400
    async with served(gateway) as client:
        job = await gateway.submit()
        request = f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        before = psutil.Process().memory_info().rss

        async def follow():
            reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
            writer.write(request.encode())
            text = await reader.readuntil(b"event: end\n")
            writer.close()
            await writer.wait_closed()
            return text.partition(b"id: 1\n")[2].count(b"\nevent: ")

        readers = [asyncio.create_task(follow()) for _ in range(count)]
        channels = gateway.service._feed._channels
        await until(lambda: job in channels and channels[job].readers == count, 20)
        times = []
        for _ in range(20):
            start = time.perf_counter()
            await gateway.submit()
            times.append(time.perf_counter() - start)
        grown = (psutil.Process().memory_info().rss - before) / count
        assert grown < 128 * 1024, "client and server together"
        assert statistics.median(times) < 0.25
        await gateway.http.post(f"/v1/jobs/{job}/cancel", json={})
        assert len(set(await asyncio.gather(*readers))) == 1
