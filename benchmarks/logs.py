"""Two gibibytes of log and fifty readers: what the gateway's memory does, and how long the last lines take."""

import asyncio
import time

import httpx

from benchmarks import harness, served
from benchmarks.harness import Claim, Row
from tests.doubles import log

GIB = 1024**3
SEGMENT = 4 * 1024 * 1024
READERS = 50
EACH = 48 * 1024 * 1024
"""Bytes that one reader takes."""
ABOUT = (
    "A job's log in segments of 4 MiB, as a loud container ships them, in a folder store. Fifty readers at once begin "
    "at different bytes, with `after` or a range, and every fifth waits between pieces; then one reads all of it. "
    "Memory: the gateway process' peak over what it had before. Tail: `?tail=20`, also of one line that never ends."
)


def run(name: str, pairs: int = harness.PAIRS, size: int = 2 * GIB, readers: int = READERS) -> None:
    """Measure; each row has a log of its own."""
    rows = [asyncio.run(_row(size, readers)) for _ in range(pairs)]
    told = [
        Claim("memory while the log is read, MB", "grown, MB", None, "at most", gate=128, aim=64),
        Claim("the last 20 lines, ms", "tail, ms", None, "at most"),
        Claim("the last 20 lines of one endless line, ms", "tail of one line, ms", None, "at most"),
        Claim("one reader, MB/s", "one reader, MB/s"),
    ]
    harness.keep(name, rows, told, ABOUT, notes={"bytes": size, "readers": readers})


async def _row(size: int, readers: int) -> Row:
    with served.gateway() as gateway:
        async with (
            gateway.client(timeout=120) as http,
            httpx.AsyncClient(base_url=gateway.url, timeout=60) as anonymous,
        ):
            lines = await _written(gateway, http, anonymous, (b"x" * 99 + b"\n") * (SEGMENT // 100 + 1), size)
            endless = await _written(gateway, http, anonymous, b"y" * SEGMENT, min(size, 64 * SEGMENT))
            before = gateway.memory()
            gateway.forget_peak()
            row = {
                "tail, ms": await _tail(http, lines),
                "tail of one line, ms": await _tail(http, endless),
            }
            each = min(EACH, size // 2)
            start = time.perf_counter()
            await asyncio.gather(*(_reader(http, lines, size, each, number) for number in range(readers)))
            row["many readers, MB/s"] = readers * each / 1e6 / (time.perf_counter() - start)
            start = time.perf_counter()
            assert await _read(http, lines, {}, {}, size) == size
            row["one reader, MB/s"] = size / 1e6 / (time.perf_counter() - start)
            return row | {"grown, MB": gateway.memory(peak=True) - before, "before, MB": before}


async def _written(
    gateway: served.Served, http: httpx.AsyncClient, anonymous: httpx.AsyncClient, block: bytes, size: int
) -> str:
    """A finished job whose log is made of this block."""
    job = await gateway.submit(http)
    head = await gateway.container(anonymous, job)
    data = block[:SEGMENT]
    for start in range(0, size, SEGMENT):
        key = await head.write(f"logs/0/{start:012d}", data)
        assert (await head.send(log(0, key, start, len(data)))).is_success
    assert (await head.commit()).is_success
    await http.get(f"/v1/jobs/{job}", params={"wait": 30, "until": "done"})
    return job


async def _tail(http: httpx.AsyncClient, job: str) -> float:
    start = time.perf_counter()
    answer = await http.get(f"/v1/jobs/{job}/logs", params={"tail": 20})
    assert answer.is_success
    assert answer.content
    return (time.perf_counter() - start) * 1000


async def _reader(http: httpx.AsyncClient, job: str, size: int, each: int, number: int) -> None:
    """Half of them by `after`, half by a range; every fifth is slow."""
    begin = (size - each) * number // READERS
    params, headers = ({"after": begin}, {}) if number % 2 else ({}, {"Range": f"bytes={begin}-{begin + each - 1}"})
    assert await _read(http, job, params, headers, each, slow=number % 5 == 0) >= each


async def _read(
    http: httpx.AsyncClient,
    job: str,
    params: dict[str, int],
    headers: dict[str, str],
    most: int,
    *,
    slow: bool = False,
) -> int:
    got = 0
    async with http.stream("GET", f"/v1/jobs/{job}/logs", params=params, headers=headers) as answer:
        assert answer.is_success
        async for piece in answer.aiter_raw(1024 * 1024):
            got += len(piece)
            if got >= most:
                break
            if slow:
                await asyncio.sleep(0.05)
    return got
