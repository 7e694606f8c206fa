"""Submissions that are durable when they are answered, on SQLite and PostgreSQL, against the same route without."""

import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import harness
from benchmarks.harness import Claim, Row

CONNECTIONS = 32
REQUESTS = 3_000
TOKEN = "t" * 43
EXAMPLE = json.loads(Path("examples/digits.json").read_text())
BARE, KINDS = "without database", ("SQLite", "PostgreSQL")
ABOUT = (
    "POST /v1/jobs of examples/digits.json on one uvicorn process, from 32 connections of another process: requests a "
    "second and milliseconds until the answer. Without database: the same route, checks and plan included, whose job "
    "is not kept. PostgreSQL: Debian's, on the same machine, with fsync. Nothing is launched."
)


def run(name: str, pairs: int = harness.PAIRS, requests: int = REQUESTS) -> None:
    """Measure rounds of all three; the first, in which each warms up, does not count."""
    from tests.servers import postgres

    with ExitStack() as stack:
        server = stack.enter_context(postgres.running(durable=True))
        urls = {BARE: None, "SQLite": None, "PostgreSQL": server.database()}
        ports = {title: stack.enter_context(gateway(title, url)) for title, url in urls.items()}
        rows = [_round(ports, requests if pair else requests // 10) for pair in range(pairs + 1)][1:]
    told = [
        Claim(f"{kind}, requests a second over those without", f"{kind}, 1/s", f"{BARE}, 1/s", gate=0.5, aim=0.65)
        for kind in KINDS
    ]
    told += [Claim(f"{title}, p99, ms", f"{title}, p99 ms", None, "at most") for title in (BARE, *KINDS)]
    harness.keep(name, rows, told, ABOUT, notes={"requests": requests, "connections": CONNECTIONS})


def _round(ports: dict[str, int], requests: int) -> Row:
    row: Row = {}
    for title, port in ports.items():
        seconds, times = asyncio.run(load(port, requests))
        row[f"{title}, 1/s"] = requests / seconds
        row[f"{title}, p50 ms"] = statistics.median(times) * 1000
        row[f"{title}, p99 ms"] = sorted(times)[int(len(times) * 0.99)] * 1000
    return row


async def load(port: int, requests: int) -> tuple[float, list[float]]:
    """Send them, each connection one after the other; wall seconds, and seconds of each."""
    body = json.dumps(EXAMPLE).encode()
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {TOKEN}\r\n"
    request = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    times: list[float] = []

    async def connection(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(count):
            start = time.perf_counter()
            writer.write(request)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert answer.startswith(b"http/1.1 202"), answer
            await reader.readexactly(int(answer.partition(b"content-length: ")[2].partition(b"\r")[0]))
            times.append(time.perf_counter() - start)
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(connection(requests // CONNECTIONS) for _ in range(CONNECTIONS)))
    return (time.perf_counter() - start) * requests / len(times), times


@contextmanager
def gateway(title: str, url: str | None) -> Iterator[int]:
    """The port of a process that takes submissions."""
    with TemporaryDirectory(prefix="flaregate-bench-") as home:
        given = json.dumps({"home": home, "database_url": url, "token": TOKEN})
        command = [sys.executable, "-c", "from benchmarks.submissions import serve; serve()", given, title]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                yield int(process.stdout.readline())
            finally:
                process.terminate()


def serve() -> None:
    """In a process of its own: a gateway without its reconciler."""
    import uvicorn

    from gateway.home import Home
    from gateway.launchers.local import LocalLauncher
    from gateway.main import assemble
    from gateway.settings import Settings, inherited

    given, title = json.loads(sys.argv[1]), sys.argv[2]
    settings = Settings(**given)
    home = Home(settings.home)
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(CONNECTIONS)
    port = listening.getsockname()[1]
    made = assemble(settings, home, f"http://127.0.0.1:{port}", LocalLauncher(home.path, inherited()))
    if title == BARE:
        made.repository.create = _kept_nowhere  # type: ignore[method-assign]
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    config = uvicorn.Config(made.app, log_config=None, access_log=False, lifespan="off")
    asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))


async def _kept_nowhere(move: Any, *_: Callable[..., Any] | bytes) -> Any:
    from gateway.jobs.batches import batch_of
    from gateway.jobs.repository import Written

    batch = batch_of(move.events, 1)
    return Written(replace(move.job, last_event=batch.last), None, batch)
