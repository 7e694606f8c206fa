"""How long an event takes from a worker to a client, and how soon the first one comes; and a thousand idle streams."""

import asyncio
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime

import httpx

from benchmarks import harness, job_api, served
from benchmarks.harness import Claim, Row
from flaregate_wire.events import MetricsEvent
from worker_image.gateway_link import GatewayLink
from worker_image.reporting import Reporter
from worker_image.spill import Spill

EVENTS = 400
BETWEEN = 0.02
IDLE = 1000
LATENCY = (
    "An event from a container's reporter, which gathers for 50 ms, over the gateway to a client in another process. "
    "First: from POST /v1/jobs until the first event on a stream. Job API: lines that a script prints as often, on a "
    "cluster that is up and does nothing else, from the print to a client that tails them by its SDK; first line: from "
    "the submission."
)
STREAMS = (
    "A thousand streams of one job in which nothing happens: what each costs the gateway's memory, how long a "
    "submission takes meanwhile and before, and how long until the last reader has an event."
)


def run(name: str, pairs: int = harness.PAIRS, idle: int = IDLE) -> None:
    """Measure what `name` says."""
    if name == "streams":
        return _streams(name, pairs, idle)
    rows = [asyncio.run(_latency()) | job_api.logs(EVENTS, BETWEEN) for _ in range(pairs)]
    told = [
        Claim("Job API's logs over our events, p50", "Job API, p50 ms", "p50 ms", gate=20, aim=100),
        Claim("Job API's logs over our events, p99", "Job API, p99 ms", "p99 ms", gate=10, aim=50),
        Claim("Job API's first line over our first event", "Job API, first line ms", "first ms", gate=20, aim=100),
    ]
    return harness.keep(name, rows, told, LATENCY, notes={"events": EVENTS})


CLIENT = """
import sys, time
from flaregate import Client
from flaregate_wire.events import EndEvent, MetricsEvent
with Client(sys.argv[1], token=sys.argv[2]) as client:
    for event in client.job(sys.argv[3]).events():
        if isinstance(event, MetricsEvent):
            print(time.time() - event.values["sent"], flush=True)
"""


async def _latency() -> Row:
    with served.gateway() as gateway:
        async with gateway.client() as http, httpx.AsyncClient(base_url=gateway.url) as anonymous:
            row = {"first ms": statistics.median([await _first(http, gateway) for _ in range(5)])}
            job = await gateway.submit(http)
            head = await gateway.container(anonymous, job)
            command = [sys.executable, "-c", CLIENT, gateway.url, served.TOKEN, job]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:  # noqa: ASYNC220 - forked at once
                await _report(head, anonymous)
                await head.commit()
                assert client.stdout is not None
                times = sorted(float(line) * 1000 for line in client.stdout)[: EVENTS - 20]
            return row | {"p50 ms": statistics.median(times), "p99 ms": times[int(len(times) * 0.99)]}


async def _first(http: httpx.AsyncClient, gateway: served.Served) -> float:
    """Milliseconds from the POST to the first event."""
    start = time.perf_counter()
    job = await gateway.submit(http)
    async with http.stream("GET", f"/v1/jobs/{job}/events") as answer:
        async for piece in answer.aiter_raw():
            if b"id: 1\n" in piece:
                return (time.perf_counter() - start) * 1000
    raise AssertionError(job)


async def _report(head: object, http: httpx.AsyncClient) -> None:
    """Events by the container's own reporter; those of the first second find a client that is not there yet."""
    link = GatewayLink(http, head.attempt, head.boot)  # type: ignore[attr-defined]
    link._token = head.token  # type: ignore[attr-defined]  # noqa: SLF001 - the double has the order

    async def nowhere(*_: object) -> None:
        raise AssertionError

    reporter = Reporter(link, 60, lambda: None, Spill(link.boot, None, nowhere))
    shipping = asyncio.create_task(reporter.run())
    await asyncio.sleep(1.5)
    for number in range(EVENTS):
        now = datetime.now(UTC)
        reporter.report(MetricsEvent(time=now, attempt=1, candidate=0, step=number, values={"sent": time.time()}))
        await asyncio.sleep(BETWEEN)
    await reporter.settled()
    shipping.cancel()


def _streams(name: str, pairs: int, idle: int) -> None:
    rows = [asyncio.run(_idle(idle)) for _ in range(pairs)]
    told = [
        Claim("a stream that is idle, KB", "a stream, KB", None, "at most"),
        Claim("submissions while they are open over those before", "submission, ms", "alone, ms", "at most"),
        Claim("an event at the last of them, ms", "last reader, ms", None, "at most"),
    ]
    harness.keep(name, rows, told, STREAMS, notes={"streams": idle})


async def _idle(count: int) -> Row:
    with served.gateway() as gateway:
        async with gateway.client() as http, httpx.AsyncClient(base_url=gateway.url) as anonymous:
            job = await gateway.submit(http)
            head = await gateway.container(anonymous, job)
            row = {"alone, ms": await _submission(gateway, http)}
            before = gateway.memory()
            readers = [await _open(gateway, job) for _ in range(count)]
            row["a stream, KB"] = (gateway.memory() - before) * 1000 / count
            row["submission, ms"] = await _submission(gateway, http)
            start = time.perf_counter()
            now = datetime.now(UTC).isoformat()
            event = {"type": "metrics", "time": now, "candidate": 0, "step": 0, "values": {}}
            await head.send(event)
            await asyncio.gather(*(reader.readuntil(b"event: metrics\n") for reader, _ in readers))
            row["last reader, ms"] = (time.perf_counter() - start) * 1000
            for _, writer in readers:
                writer.close()
            return row


async def _submission(gateway: served.Served, http: httpx.AsyncClient) -> float:
    times = []
    for _ in range(50):
        start = time.perf_counter()
        await gateway.submit(http)
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


async def _open(gateway: served.Served, job: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream that has had all there is."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\n"
    writer.write(f"{head}Authorization: Bearer {served.TOKEN}\r\n\r\n".encode())
    await reader.readuntil(b'"running"')
    return reader, writer
