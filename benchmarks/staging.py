"""Two gibibytes staged and read back: against boto3 to the same server, and the gateway's memory meanwhile."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks import harness, served
from benchmarks.harness import Claim, Row
from tests.servers.s3 import Server, swift_server

GIB = 1024**3
MB = 1e6
ABOUT = (
    "An array of 2 GiB in a memory-mapped file is staged by the SDK: sums of whole and parts, then parts by presigned "
    "requests, four at once. Peer: boto3's upload_file of the same file to the same OpenStack Swift with its S3 API, "
    "one after the other in each pair. The same through the gateway to a folder store. Read back as a container reads "
    "it. Memory: the gateway process' peak over what it had before. A program is killed with SIGKILL when half of "
    "1 GiB has gone; the next one sends what the gateway says is missing."
)


def run(name: str, pairs: int = harness.PAIRS, size: int = 2 * GIB) -> None:
    """Measure; each pair has other bytes."""
    with tempfile.TemporaryDirectory(prefix="flaregate-bench-") as made:
        folder = Path(made)
        (folder / "swift").mkdir()
        with swift_server(folder / "swift") as swift:
            rows = [_row(folder, swift, size, number) for number in range(pairs)]
    told = [
        Claim("throughput to S3 against boto3's upload_file", "S3, MB/s", "boto3, MB/s", gate=0.8, aim=1.0),
        Claim("gateway memory, S3, MB", "S3 grown, MB", None, "at most", gate=128, aim=64),
        Claim("gateway memory, folder store, MB", "folder grown, MB", None, "at most", gate=128, aim=64),
        Claim("requests of a second upload", "again, requests", None, "at most", gate=1),
        Claim("missing after a kill half-way, share", "missing after a kill", None, "at most", gate=0.6),
        Claim("folder store, MB/s", "folder, MB/s"),
        Claim("read back from S3, MB/s", "S3 read, MB/s"),
        Claim("read back from the folder store, MB/s", "folder read, MB/s"),
    ]
    harness.keep(name, rows, told, ABOUT, notes={"bytes": size})


def _row(folder: Path, swift: Server, size: int, number: int) -> Row:
    path = folder / "array.bin"
    data = np.memmap(path, np.uint8, "w+", shape=(size,))
    block = np.random.default_rng(number).integers(0, 256, 1 << 24, np.uint8)
    for start in range(0, size, len(block)):
        data[start : start + len(block)] = block[: size - start] + np.uint8(start // len(block) % 251)
    data.flush()
    bucket = swift.bucket()
    client: Any = swift.client()
    start = time.perf_counter()
    client.upload_file(str(path), bucket, "direct")
    row: Row = {"boto3, MB/s": size / MB / (time.perf_counter() - start)}
    client.delete_object(Bucket=bucket, Key="direct")
    client.close()
    given = {
        "store": "s3",
        "s3_bucket": bucket,
        "s3_endpoint": swift.endpoint,
        "s3_access_key": swift.access_key,
        "s3_secret_key": swift.secret_key,
    }
    row |= {f"S3{name}": value for name, value in _staged(data, size, given).items()}
    row |= {f"folder{name}": value for name, value in _staged(data, size, {}).items()}
    row["again, requests"] = row.pop("S3 again, requests")
    del row["folder again, requests"]
    row["missing after a kill"] = _killed(path, min(size, GIB), given)
    return row


def _staged(data: np.ndarray, size: int, settings: dict[str, Any]) -> Row:
    from flaregate import flows
    from flaregate.payload import encode_array
    from flaregate.transport.links import Link

    with served.gateway(**settings) as gateway:
        link = Link(gateway.url, served.TOKEN)
        before = gateway.memory()
        gateway.forget_peak()
        start = time.perf_counter()
        item = encode_array(data)
        link.run(flows.staging(item, lambda *_: None))
        row: Row = {", MB/s": size / MB / (time.perf_counter() - start)}
        answers: list[Any] = []
        again = flows.staging(item, lambda *_: None)
        with suppress(StopIteration):
            asked = next(again)
            while True:
                answers.append(link.send(asked))
                asked = again.send(answers[-1])
        row[" again, requests"] = float(len(answers))
        row[" read, MB/s"] = size / MB / asyncio.run(_read(gateway, item.sha256, size))
        row[" grown, MB"] = gateway.memory(peak=True) - before
        link.close()
        return row


async def _read(gateway: served.Served, sha256: str, size: int) -> float:
    """Seconds in which a container reads the blob with the request in its order."""
    blob = {"blob": sha256, "media_type": "application/x-npy", "shape": [size]}
    body = served.EXAMPLE | {"inputs": {"X": blob, "y": blob}}
    async with gateway.client(timeout=120) as http, httpx.AsyncClient(base_url=gateway.url, timeout=120) as anonymous:
        job = (await http.post("/v1/jobs", json=body)).raise_for_status().json()["id"]
        head = await gateway.container(anonymous, job)
        transfer = (await head.order()).json()["blobs"][sha256]
        start, got = time.perf_counter(), 0
        async with anonymous.stream("GET", transfer["url"], headers=transfer.get("headers", {})) as answer:
            async for piece in answer.aiter_raw(1 << 20):
                got += len(piece)
        assert got >= size
        return time.perf_counter() - start


_HALF = """
import sys, numpy as np
from flaregate import flows
from flaregate.payload import encode_array
from flaregate.transport.links import Link
item = encode_array(np.memmap(sys.argv[3], np.uint8, "r", shape=(int(sys.argv[4]),)))
print(item.sha256, item.size, flush=True)
gone = 0
def told(_, done):
    global gone
    if done > gone + (1 << 24):
        gone = done
        print(done, flush=True)
Link(sys.argv[1], sys.argv[2]).run(flows.staging(item, told))
"""


def _killed(path: Path, size: int, settings: dict[str, Any]) -> float:
    """Which share of a blob is missing after a program that stages it was killed half-way."""
    from flaregate import flows
    from flaregate.payload import encode_array
    from flaregate.transport import calls
    from flaregate.transport.links import Link

    with served.gateway(**settings) as gateway:
        command = [sys.executable, "-c", _HALF, gateway.url, served.TOKEN, str(path), str(size)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            for line in process.stdout:
                if int(line) > size // 2:
                    os.kill(process.pid, signal.SIGKILL)
                    break
        link = Link(gateway.url, served.TOKEN)
        item = encode_array(np.memmap(path, np.uint8, "r", shape=(size,)))
        missing = json.loads(link.send(calls.offer(item)).content)["missing"]
        link.run(flows.staging(item, lambda *_: None))
        link.close()
        return float(missing) / item.size
