"""Inputs in and artifacts out: ranges that go on after a cut, sums, requests that are too old, parts of large files."""

import asyncio
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from flaregate_wire.attempts import LargePlace
from flaregate_wire.blobs import Transfer
from flaregate_wire.definitions import JobDefinition
from tests.doubles import BOOT
from tests.gateway.conftest import digits
from tests.served import served
from worker_image import artifacts, fetching, parts
from worker_image.artifacts import put_artifact
from worker_image.cache_requests import Requests
from worker_image.fetching import Reads, described, fetch_inputs
from worker_image.gateway_link import GatewayLink
from worker_image.transfers import StageInFailed, StoreRefused
from worker_image.work import LocalArtifact

MIB = 1024 * 1024


def named(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Files:
    """A store that has ranges, cuts answers off, and takes requests for some time only."""

    def __init__(self):
        self.data, self.once, self.cuts, self.asked, self.era = {}, {}, {}, [], 0
        self.ranges, self.lock = True, threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.daemon_threads, self.server.files = True, self
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def request(self, sha256):
        port = self.server.server_address[1]
        return Transfer(method="GET", url=f"http://127.0.0.1:{port}/{sha256}?era={self.era}")

    def reads(self, *datas, sizes=True):
        self.data |= {named(data): data for data in datas}
        sums = [named(data) for data in datas]

        async def renewed():
            return {sha256: self.request(sha256) for sha256 in sums}

        known = {named(data): len(data) for data in datas} if sizes else {}
        return Reads({sha256: self.request(sha256) for sha256 in sums}, known, renewed)

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        files, (path, _, query) = self.server.files, self.path.partition("?")
        sha256, part = path.strip("/"), self.headers.get("Range")
        with files.lock:
            files.asked.append(part)
            cut = files.cuts.get(sha256, [])
            length = cut.pop(0) if cut else None
        if query != f"era={files.era}" or sha256 not in files.data:
            self.send_error(403 if query != f"era={files.era}" else 404)
            return
        data = files.once.pop(sha256, None) or files.data[sha256]
        if part and files.ranges:
            first, _, last = part.removeprefix("bytes=").partition("-")
            if int(first) >= len(data):
                self.send_error(416)
                return
            data = data[int(first) : int(last) + 1 if last else None]
        self.send_response(206 if part and files.ranges else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data if length is None else data[:length])

    def log_message(self, *_):
        pass


@pytest.fixture
def files():
    files = Files()
    yield files
    files.close()


@pytest.fixture
def small_ranges(monkeypatch):
    monkeypatch.setattr(fetching, "RANGE_BYTES", MIB)


async def fetched(reads, folder, patience=2.0):
    async with httpx.AsyncClient(trust_env=False) as client:
        found = await fetch_inputs(client, reads, folder, patience)
    return {sha256: Path(path).read_bytes() for sha256, path in found.items()}


@pytest.mark.parametrize("sizes", [True, False])
async def test_blobs_of_all_sizes_arrive_whole(files, tmp_path, small_ranges, sizes):
    datas = [b"", b"small", bytes(range(256)) * 4096, b"x" * (3 * MIB + 7)]
    found = await fetched(files.reads(*datas, sizes=sizes), tmp_path)
    assert found == {named(data): data for data in datas}


async def test_a_large_one_comes_in_ranges_and_goes_on_where_it_broke_off(files, tmp_path, small_ranges):
    data = bytes(range(251)) * (4 * MIB // 251)
    files.cuts[named(data)] = [1000, MIB // 2]
    assert await fetched(files.reads(data), tmp_path) == {named(data): data}
    starts = sorted(int(part.removeprefix("bytes=").partition("-")[0]) for part in files.asked)
    assert starts[0] == 0
    assert len(starts) == 6, "four ranges, and two that go on"
    assert any(start % MIB for start in starts)


async def test_a_store_without_ranges_begins_again(files, tmp_path, small_ranges):
    data = bytes(range(249)) * (3 * MIB // 249)
    files.ranges, files.cuts[named(data)] = False, [MIB // 2]
    assert await fetched(files.reads(data), tmp_path) == {named(data): data}


async def test_requests_that_are_too_old_are_asked_for_anew(files, tmp_path, small_ranges):
    data = b"z" * (3 * MIB)
    reads = files.reads(data)
    files.era = 1
    assert await fetched(reads, tmp_path) == {named(data): data}


async def test_damaged_and_missing_blobs_are_named(files, tmp_path):
    data = b"as it was"
    reads = files.reads(data)
    files.data[named(data)] = b"otherwise"
    with pytest.raises(StageInFailed, match="has the sum") as damaged:
        await fetched(reads, tmp_path)
    assert damaged.value.damaged == (named(data),)
    files.once[named(data)] = b"otherwise"
    files.data[named(data)] = data
    assert await fetched(reads, tmp_path) == {named(data): data}, "a bad answer alone is no damage"
    del files.data[named(data)]
    with pytest.raises(StageInFailed, match="404") as damaged:
        await fetched(reads, tmp_path)
    assert damaged.value.damaged == (named(data),)
    files.era = 1

    async def never():
        return {}

    with pytest.raises(StageInFailed, match="403") as refused:
        await fetched(Reads(reads.requests, reads.sizes, never), tmp_path)
    assert refused.value.damaged == ()


async def test_an_object_that_was_cut_off_is_damaged(files, tmp_path, small_ranges):
    data = b"w" * (3 * MIB)
    reads = files.reads(data)
    files.data[named(data)] = data[: MIB // 2]
    with pytest.raises(StageInFailed) as damaged:
        await fetched(reads, tmp_path, 1.0)
    assert damaged.value.damaged == (named(data),)


def test_a_damaged_input_is_told_by_its_name():
    sha256 = "sha256:" + "1" * 64
    body = digits() | {
        "inputs": {"X": {"blob": sha256, "media_type": "application/x-npy"}, "y": digits()["inputs"]["y"]}
    }
    definition = JobDefinition.model_validate(body)
    assert described(definition, (sha256,)) == "X"
    assert described(definition, ("sha256:" + "2" * 64,)) == "sha256:" + "2" * 64


@pytest.fixture
async def attempt(tmp_path, monkeypatch):
    """A gateway with a head of a running job; files of 20 MiB and more go in parts of 16 MiB."""
    monkeypatch.setattr(artifacts, "sums_of", lambda path: parts.sums_of(path, 20 * MIB))
    async with served(tmp_path / "gateway") as gateway:
        job = await gateway.submit()
        head = await gateway.head(job)
        await gateway.in_state(job, "running")
        async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
            link = GatewayLink(client, f"{job}-1", boot=BOOT)
            link._token = head.token
            yield gateway, job, head, link


@pytest.mark.parametrize("size", [0, 1000, 32 * MIB, 40 * MIB + 13])
async def test_artifacts_small_and_large_are_committed(attempt, tmp_path, size):
    gateway, job, head, link = attempt
    data = bytes(range(253)) * (size // 253) + b"!" * (size % 253)
    (tmp_path / "file").write_bytes(data)
    local = LocalArtifact(name="best", path=str(tmp_path / "file"), media_type="application/octet-stream")
    kept = await put_artifact(link, local, 5)
    assert (kept.size, kept.sha256) == (size, named(data))
    assert (await head.commit(artifacts=[kept.model_dump()])).status_code == 204
    answer = await gateway.http.get(f"/v1/jobs/{job}/artifacts/best")
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(answer.headers["location"])).content == data


async def test_a_large_result_of_the_cache_goes_in_parts_by_its_sum(attempt, tmp_path, monkeypatch):
    gateway, job, head, _ = attempt
    monkeypatch.setattr("worker_image.cache_requests.sums_of", lambda path: parts.sums_of(path, 20 * MIB))
    data = b"r" * (50 * MIB)
    (tmp_path / "file").write_bytes(data)

    def write():
        requests = Requests(gateway.url, f"{job}-1", head.token, 5)
        try:
            return requests.write_file(tmp_path / "file"), requests.count
        finally:
            requests.close()

    kept, count = await asyncio.to_thread(write)
    assert (kept.size, kept.sha256) == (len(data), named(data))
    assert count == 2 + 4, "asked, four parts, finished"
    assert (await gateway.store.head(kept.key)).size == len(data)


def test_what_the_store_never_keeps_is_given_up(tmp_path):
    (tmp_path / "file").write_bytes(b"n" * (21 * MIB))
    sums = parts.sums_of(tmp_path / "file", 20 * MIB)
    flow = parts.in_parts("artifacts/best", sums)
    step, asked = next(flow), 0
    place = LargePlace(key="k", upload="u", send=(), missing=sums.size)

    def never():
        nonlocal step, asked
        while True:
            asked += isinstance(step, parts.Ask)
            step = flow.send(place if isinstance(step, parts.Ask) else None)

    with pytest.raises(StoreRefused, match="does not keep"):
        never()
    assert asked < 10
