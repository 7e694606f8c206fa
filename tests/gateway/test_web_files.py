"""Looks at users' web servers: real TLS on loopback, which the operator has allowed, and names that lead inside."""

import socket

import pytest

from gateway.stores.base import ObjectMissing, StoreDenied, StoreUnavailable
from gateway.stores.web import WebFiles
from tests.servers.https import Page, Web


@pytest.fixture
def web(tmp_path):
    web = Web(tmp_path)
    yield web
    web.close()


@pytest.fixture
async def files(web):
    files = WebFiles([web.host], web.trust, web.names)
    yield files
    await files.close()


@pytest.mark.parametrize("ranges", [True, False])
async def test_size_and_etag_are_found_without_reading(web, files, ranges):
    web.pages["/a.csv"] = Page(b"x" * 5000, ranges=ranges)
    (found,) = await files.files(web.url("/a.csv"), 10)
    assert (found.address, found.size, found.etag) == (web.url("/a.csv"), 5000, '"1"')
    ((path, headers),) = web.asked
    assert (path, headers["Host"], headers["Range"]) == ("/a.csv", web.host, "bytes=0-0")
    assert "Authorization" not in headers
    read = files.read(found)
    assert (read.get.url, read.open_to) == (web.url("/a.csv"), (web.host,))


async def test_redirects_are_followed(web, files):
    web.pages["/a.csv"] = Page(status=302, location="/b.csv", etag=None)
    web.pages["/b.csv"] = Page(b"rows", etag='"b"')
    (found,) = await files.files(web.url("/a.csv"), 10)
    assert (found.address, found.size, found.etag) == (web.url("/a.csv"), 4, '"b"')


@pytest.mark.parametrize(
    "location",
    ["https://127.0.0.1/secret", "https://localhost/secret", "https://files.example:1/x", "http://files.example/"],
)
async def test_a_redirect_inside_is_refused(web, location):
    async def names(host, port):
        return ["127.0.0.1"]

    files = WebFiles([web.host], web.trust, names)
    web.pages["/a.csv"] = Page(status=302, location=location)
    with pytest.raises(StoreDenied, match=r"public internet|https://|FLAREGATE_REFERENCE_HOSTS"):
        await files.files(web.url("/a.csv"), 10)
    assert len(web.asked) == 1
    await files.close()


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["::1"], ["10.0.0.8", "8.8.8.8"], ["8.8.8.8", "::ffff:127.0.0.1"]]
)
async def test_a_name_that_leads_inside_is_refused_before_anything_is_sent(web, addresses):
    async def names(host, port):
        return addresses

    files = WebFiles([], web.trust, names)
    with pytest.raises(StoreDenied, match=r"innocent\.example is not on the public internet"):
        await files.files("https://innocent.example/a.csv", 10)
    assert web.asked == []
    await files.close()


async def test_a_certificate_of_another_name_is_not_believed(web):
    async def names(host, port):
        return ["127.0.0.1"]

    files = WebFiles([f"other.example:{web.port}"], web.trust, names)
    with pytest.raises(StoreDenied, match="certificate is not to be believed"):
        await files.files(f"https://other.example:{web.port}/a.csv", 10)
    await files.close()


async def test_a_certificate_of_nobody_is_not_believed(web):
    files = WebFiles([web.host], None, web.names)
    with pytest.raises(StoreDenied, match="certificate is not to be believed"):
        await files.files(web.url("/a.csv"), 10)
    await files.close()


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (404, ObjectMissing, "no such file"),
        (410, ObjectMissing, "no such file"),
        (403, StoreDenied, "403 Forbidden; give an address that can be read without a login"),
        (401, StoreDenied, "401"),
        (429, StoreUnavailable, "429"),
        (503, StoreUnavailable, "503"),
    ],
)
async def test_what_the_server_says_is_told(web, files, status, kind, words):
    web.pages["/a.csv"] = Page(status=status)
    with pytest.raises(kind, match=words):
        await files.files(web.url("/a.csv"), 10)


async def test_a_server_that_is_away_may_come_back(web, files):
    web.close()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await files.files(web.url("/a.csv"), 10)


@pytest.mark.parametrize(("number", "kind"), [(socket.EAI_NONAME, StoreDenied), (socket.EAI_AGAIN, StoreUnavailable)])
async def test_a_name_that_nobody_has(number, kind):
    async def names(host, port):
        raise socket.gaierror(number, "not known")

    files = WebFiles([], names=names)
    with pytest.raises(kind, match="name of its host is not known"):
        await files.files("https://no-such-host.example/a.csv", 10)
    await files.close()


def test_faults_are_told_at_submission_without_asking_anyone():
    files = WebFiles(["Inside.example:8443"])
    assert files.fault("https://inside.example:8443/a.csv") is None
    assert files.fault("https://anyone.example/a.csv") is None
    assert "FLAREGATE_REFERENCE_HOSTS=inside.example:9443" in files.fault("https://inside.example:9443/a.csv")
    assert "not on the public internet" in files.fault("https://169.254.169.254/latest/meta-data.csv")
