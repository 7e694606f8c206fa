"""Artifacts come in ranges, several at once; cuts, URLs that are too old and interrupted tries lose nothing."""

import asyncio
import hashlib
import random
import threading
import time

import httpx
import pytest

import flaregate as fg
from flaregate.downloads import AT_ONCE, FEW, PIECE
from flaregate.transport.links import AsyncLink, Link
from tests.sdk.double import URL, Double

SMALL = b"a fitted pipeline"
MIDDLE = random.Random(1).randbytes(2 * PIECE + 5)
LARGE = random.Random(2).randbytes(FEW + PIECE + 5)
EXPIRED = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"


class Store(Double):
    """A gateway whose store is elsewhere, serves ranges, and misbehaves where told to."""

    def __init__(self, data):
        super().__init__()
        self.artifacts["best"] = data
        self.located, self.ranges, self.troubles, self.busy, self.most = 0, [], [], 0, 0
        self.lock, self.patience = threading.Lock(), 5

    def __call__(self, request):
        if request.url.host != "store.test":
            answer = super().__call__(request)
            if answer.status_code == 307:
                self.located += 1
                answer.headers["location"] = f"http://store.test/best?url={self.located}"
            return answer
        assert "authorization" not in request.headers
        return self.serve(request)

    def serve(self, request):
        data = self.artifacts["best"]
        asked = request.headers.get("range")
        start, stop = (int(place) for place in asked.removeprefix("bytes=").split("-")) if asked else (0, len(data) - 1)
        with self.lock:
            self.ranges.append(start if asked else None)
            trouble = self.troubles.pop(0) if self.troubles else None
        if isinstance(trouble, Exception):
            raise trouble
        if trouble is not None:
            return trouble
        if asked is None:
            return httpx.Response(200, content=data)
        headers = {"content-range": f"bytes {start}-{stop}/{len(data)}"}
        return httpx.Response(206, content=data[start : stop + 1], headers=headers)


def blocking(store, path):
    with fg.Client(URL, "secret", transport=store.transport) as client:
        client.link = Link(URL, "secret", transport=store.transport, patience=store.patience)
        return client.job("job-1").download("best", path)


def awaiting(store, path):
    async def work():
        client = fg.AsyncClient(URL, "secret", transport=store.transport)
        client._link = AsyncLink(URL, "secret", transport=store.transport, patience=store.patience)
        async with client:
            return await (await client.job("job-1")).download("best", path)

    return asyncio.run(work())


@pytest.fixture(params=[blocking, awaiting])
def download(request, tmp_path):
    def work(store):
        path = request.param(store, tmp_path / "best.zip")
        assert [file.name for file in tmp_path.iterdir()] == ["best.zip"], "nothing is left beside it"
        return path.read_bytes()

    return work


def test_a_small_one_is_one_request(download):
    store = Store(SMALL)
    assert download(store) == SMALL
    assert store.ranges == [None]


def test_an_empty_one_is_none(download):
    store = Store(b"")
    assert download(store) == b""
    assert store.ranges == []


def test_a_larger_one_comes_range_by_range(download):
    store = Store(MIDDLE)
    assert download(store) == MIDDLE
    assert store.ranges == [0, PIECE, 2 * PIECE]
    assert store.located == 1


def test_of_a_large_one_several_ranges_come_at_once(download):
    store = Store(LARGE)
    assert download(store) == LARGE
    assert sorted(store.ranges) == list(range(0, len(LARGE), PIECE))
    assert sorted(store.ranges[:AT_ONCE]) == [PIECE * place for place in range(AT_ONCE)]


def test_after_a_cut_it_goes_on_where_it_was(download):
    store = Store(MIDDLE)
    store.troubles = [None, httpx.ReadError("cut"), httpx.Response(503)]
    assert download(store) == MIDDLE
    assert store.ranges == [0, PIECE, PIECE, PIECE, 2 * PIECE]


@pytest.mark.parametrize("status", [400, 403])
def test_a_url_that_is_too_old_is_replaced(download, status):
    store = Store(MIDDLE)
    store.troubles = [None, httpx.Response(status, text=EXPIRED)]
    assert download(store) == MIDDLE
    assert store.located == 2
    assert store.ranges == [0, PIECE, PIECE, 2 * PIECE]


def test_a_new_url_that_is_refused_too_is_an_error(download):
    store = Store(MIDDLE)
    store.troubles = [httpx.Response(403, text=EXPIRED)] * 3
    with pytest.raises(fg.Refused, match="Request has expired"):
        download(store)


@pytest.mark.parametrize("client", [blocking, awaiting])
def test_the_next_try_goes_on_with_what_an_interrupted_one_left(client, tmp_path):
    store = Store(MIDDLE)
    store.troubles, store.patience = [None, *[httpx.ConnectError("away")] * 50], 0.2
    with pytest.raises(fg.GatewayUnavailable):
        client(store, tmp_path / "best.zip")
    (part,) = tmp_path.iterdir()
    assert part.stat().st_size == PIECE
    store.ranges, store.troubles, store.patience = [], [], 5
    assert client(store, tmp_path / "best.zip").read_bytes() == MIDDLE
    assert store.ranges == [PIECE, 2 * PIECE]
    assert [file.name for file in tmp_path.iterdir()] == ["best.zip"]


@pytest.mark.parametrize("client", [blocking, awaiting])
def test_what_arrives_damaged_is_no_file_and_is_fetched_anew(client, tmp_path):
    store = Store(MIDDLE)
    target = tmp_path / "best.zip"
    target.write_bytes(b"as it was")
    left = tmp_path / f".best.zip.{hashlib.sha256(MIDDLE).hexdigest()[:12]}.part"
    left.write_bytes(b"\0" * PIECE)
    with pytest.raises(fg.GatewayUnavailable, match="arrived damaged"):
        client(store, target)
    assert target.read_bytes() == b"as it was"
    assert client(store, target).read_bytes() == MIDDLE
    assert not left.exists()


@pytest.mark.services
def test_a_real_service_gives_ranges_of_one_presigned_url(swift, tmp_path):
    client, bucket = swift.client(), swift.bucket()
    client.put_object(Bucket=bucket, Key="best", Body=LARGE)
    sent = []

    class Redirecting(Store):
        """The gateway is a double, the store is not."""

        def __init__(self):
            super().__init__(LARGE)
            self.real = httpx.HTTPTransport()

        def __call__(self, request):
            if request.url.host != "127.0.0.1":
                answer = super().__call__(request)
                if answer.status_code == 307:
                    age = 3 if self.located == 1 else 900
                    place = {"Bucket": bucket, "Key": "best"}
                    answer.headers["location"] = client.generate_presigned_url("get_object", place, ExpiresIn=age)
                return answer
            assert "authorization" not in request.headers
            if self.located == 1 and len(sent) >= AT_ONCE:
                time.sleep(4)
            sent.append(request.headers["range"])
            return self.real.handle_request(request)

    store = Redirecting()
    assert blocking(store, tmp_path / "best.zip").read_bytes() == LARGE
    store.real.close()
    assert store.located == 2, "the first URL was too old for the second round"
    assert len(set(sent)) == -(-len(LARGE) // PIECE)


def test_a_store_that_gives_no_ranges_is_told_so(download, tmp_path):
    store = Store(MIDDLE)
    store.troubles = [None, httpx.Response(200, content=MIDDLE)]
    with pytest.raises(fg.GatewayUnavailable, match="does not give the range"):
        download(store)
