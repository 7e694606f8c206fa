"""Files of references onto the machine: whole, the same as when the job began, from where users may send us."""

import asyncio
import hashlib
import threading
from pathlib import Path

import httpx
import pytest

from flaregate_wire.blobs import Transfer
from flaregate_wire.references import RemoteFile, RemoteRead
from tests.servers.https import Page, Web
from worker_image.references import Network, fetch_references
from worker_image.transfers import StageInFailed

ROWS = bytes(range(256)) * 20_000


@pytest.fixture
def web(tmp_path):
    web = Web(tmp_path)
    yield web
    web.close()


def read_of(web, path="/a.csv", open_to=None, **known):
    known = {"size": len(ROWS), "etag": '"1"'} | known
    url = web.url(path)
    return RemoteRead(
        file=RemoteFile(address=url, **known),
        get=Transfer(method="GET", url=url),
        open_to=(web.host,) if open_to is None else open_to,
    )


@pytest.fixture
def fetch(web, tmp_path):
    async def run(*reads, names=web.names, patience=2, **more):
        references = {f"r{number}": (read,) for number, read in enumerate(reads)} | more
        async with httpx.AsyncClient() as client:
            return await fetch_references(references, Network(client, web.trust, names), tmp_path, patience)

    return run


async def test_the_bytes_come_and_keep_the_identity_that_the_gateway_saw(web, fetch, tmp_path):
    web.pages["/a.csv"] = Page(ROWS)
    (found,) = (await fetch(read_of(web)))["r0"]
    assert Path(found.path).read_bytes() == ROWS
    assert found.content == [web.url("/a.csv"), "etag", '"1"', len(ROWS)]
    ((_, headers),) = web.asked
    assert "Authorization" not in headers


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
async def test_without_an_etag_that_counts_the_bytes_are_hashed(web, fetch, etag):
    web.pages["/a.csv"] = Page(ROWS, etag=etag)
    (found,) = (await fetch(read_of(web, etag=etag)))["r0"]
    assert found.content == [web.url("/a.csv"), "sha256", hashlib.sha256(ROWS).hexdigest()]


async def test_files_of_a_folder_keep_their_order(web, fetch):
    for number in range(12):
        web.pages[f"/{number}"] = Page(bytes([number]) * 10)
    reads = tuple(read_of(web, f"/{number}", size=10) for number in range(12))
    found = await fetch(folder=reads)
    assert [Path(file.path).read_bytes()[0] for file in found["folder"]] == list(range(12))


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (Page(ROWS, etag='"2"'), 'its ETag was "1" and is "2"'),
        (Page(ROWS, etag=None), 'its ETag was "1" and is None'),
        (Page(ROWS[:-1]), f"it had {len(ROWS)} bytes and has {len(ROWS) - 1}"),
        (Page(ROWS + b"x"), f"it had {len(ROWS)} bytes and has {len(ROWS) + 1}"),
        (Page(status=412), "ETag is another one"),
        (Page(status=404), "it is gone"),
    ],
)
async def test_a_file_that_has_changed_ends_it(web, fetch, page, words):
    web.pages["/a.csv"] = page
    with pytest.raises(StageInFailed, match=f"https://files.example.* has changed since the job began.*{words}"):
        await fetch(read_of(web))


async def test_what_was_cut_off_is_resumed(web, fetch):
    web.pages["/a.csv"] = Page(ROWS, cuts=[2_000_000, 1_000_000])
    (found,) = (await fetch(read_of(web)))["r0"]
    assert Path(found.path).read_bytes() == ROWS
    begins = [int(headers.get("Range", "bytes=0-")[6:-1]) for _, headers in web.asked]
    assert len(begins) == 3
    assert 0 == begins[0] < begins[1] < begins[2] <= 3_000_000


@pytest.mark.parametrize("page", [Page(ROWS, cuts=[1000], ranges=False), Page(ROWS, cuts=[1000], etag=None)])
async def test_what_cannot_be_resumed_begins_anew(web, fetch, page):
    web.pages["/a.csv"] = page
    (found,) = (await fetch(read_of(web, etag=page.etag)))["r0"]
    assert Path(found.path).read_bytes() == ROWS


async def test_a_server_that_stays_away_ends_it_after_some_patience(web, fetch):
    web.pages["/a.csv"] = Page(status=503)
    with pytest.raises(StageInFailed, match=r"files\.example.*503"):
        await fetch(read_of(web), patience=0.2)
    assert len(web.asked) > 1


@pytest.mark.parametrize("location", ["https://127.0.0.1/secret", "http://files.example/a.csv"])
async def test_a_redirect_inside_is_refused_here_too(web, fetch, location):
    web.pages["/a.csv"] = Page(status=302, location=location)
    with pytest.raises(StageInFailed, match=r"public internet|https://"):
        await fetch(read_of(web))
    assert len(web.asked) == 1


async def test_a_name_that_leads_inside_by_now_is_refused_here_too(web, fetch):
    async def names(host, port):
        return ["8.8.8.8", "127.0.0.1"]

    with pytest.raises(StageInFailed, match="not on the public internet"):
        await fetch(
            read_of(web).model_copy(update={"get": Transfer(method="GET", url="https://a.example/x"), "open_to": ()}),
            names=names,
        )
    assert web.asked == []


async def test_a_signed_request_goes_as_it_is(web, tmp_path):
    asked = []

    def store(request):
        asked.append(request)
        return httpx.Response(200, stream=httpx.ByteStream(b"rows"), headers={"ETag": '"e"'})

    file = RemoteFile(address="s3://bucket/key.csv", size=4, etag='"e"')
    get = Transfer(method="GET", url="http://10.0.0.1:9000/bucket/key.csv?signed=yes", headers={"If-Match": '"e"'})
    async with httpx.AsyncClient(transport=httpx.MockTransport(store)) as client:
        found = await fetch_references({"r": (RemoteRead(file=file, get=get),)}, Network(client), tmp_path, 1)
    assert (str(asked[0].url), asked[0].headers["If-Match"]) == (get.url, '"e"')
    assert found["r"][0].content == ["s3://bucket/key.csv", "etag", '"e"', 4]


async def test_the_first_fault_ends_the_others(web, fetch):
    asked, ended = threading.Event(), threading.Event()
    web.pages["/a.csv"] = Page(ROWS, etag='"other"', before=asked.wait)
    web.pages["/b.csv"] = Page(ROWS, before=lambda: (asked.set(), ended.wait()))
    try:
        async with asyncio.timeout(10):
            with pytest.raises(StageInFailed, match="changed"):
                await fetch(read_of(web), read_of(web, "/b.csv"), patience=60)
    finally:
        ended.set()
