"""What every store does: one suite for each implementation."""

import asyncio
import hashlib
import time
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

from flaregate_wire.blobs import DROP_HEADER, Part
from gateway.home import drops_in
from gateway.stores.base import Expected, KeyRefused, ObjectExists, ObjectMismatch, ObjectMissing, UploadMissing
from gateway.stores.folder import FolderStore
from gateway.stores.signing import Grant, Slot, UrlRefused, UrlSigner
from tests.contracts import stores
from tests.contracts.stores import MIB

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Time:
    now = NOW


@pytest.fixture
def signer():
    Time.now = NOW
    return UrlSigner(b"k" * 32, "http://gateway", 900, lambda: Time.now)


KINDS = ["folder", "moto", pytest.param("swift", marks=pytest.mark.services)]
everywhere = pytest.mark.parametrize("kit", [*KINDS, "unconditional"], indirect=True)
"""Also on a service that ignores If-None-Match, as several do."""


@pytest.fixture(params=KINDS)
async def kit(request, tmp_path, signer):
    if request.param == "folder":
        opened = stores.folder(tmp_path, signer)
    else:
        server = request.getfixturevalue("swift" if request.param == "swift" else "moto")
        opened = stores.bucket(server, tmp_path, conditional=request.param != "unconditional")
    async with opened as kit:
        yield kit


@pytest.fixture
async def store(kit):
    """As the gateway has it after its start."""
    await kit.store.probe()
    return kit.store


@pytest.fixture
def http(kit):
    return kit.http


async def send(http, transfer, data):
    answer = await http.request(transfer.method, transfer.url, headers=transfer.headers, content=data)
    return answer.status_code


async def pieces(*parts):
    for part in parts:
        yield part


async def get(store, key, **part):
    return b"".join([piece async for piece in store.get(key, **part)])


async def names(store, prefix):
    return sorted([info.key async for info in store.list(prefix)])


async def test_what_was_put_is_there(store):
    info = await store.put("a/b/c", pieces(b"one", b"", b"two"))
    assert (info.key, info.size) == ("a/b/c", 6)
    assert await get(store, "a/b/c") == b"onetwo"
    assert (await store.head("a/b/c")).size == 6
    await store.put("a/b/c", pieces(b"3"))
    assert await get(store, "a/b/c") == b"3"
    await store.put("empty", pieces())
    assert await get(store, "empty") == b""


async def test_ranges(store):
    await store.put("k", pieces(bytes(range(100))))
    assert await get(store, "k", start=10) == bytes(range(10, 100))
    assert await get(store, "k", start=10, stop=20) == bytes(range(10, 20))
    assert await get(store, "k", start=100) == b""
    assert await get(store, "k", start=5, stop=5) == b""


async def test_what_is_not_there_is_missing(store):
    await store.put("a/b", pieces(b"x"))
    for key in ("nothing", "a", "a/b/c"):
        with pytest.raises(ObjectMissing):
            await get(store, key)
        with pytest.raises(ObjectMissing):
            await store.head(key)


@everywhere
async def test_if_absent_has_one_winner(store):
    results = await asyncio.gather(
        *(store.put("k", pieces(b"%d" % n), if_absent=True) for n in range(16)), return_exceptions=True
    )
    assert sum(not isinstance(result, Exception) for result in results) == 1
    assert all(isinstance(result, ObjectExists) for result in results if isinstance(result, Exception))
    winner = next(place for place, result in enumerate(results) if not isinstance(result, Exception))
    assert await get(store, "k") == b"%d" % winner


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"12345", Expected(size=4)),
        (b"12345", Expected(size=6)),
        (b"12345", Expected(sha256="sha256:" + "0" * 64)),
    ],
)
async def test_what_is_not_as_announced_is_not_kept(store, data, expected):
    with pytest.raises(ObjectMismatch):
        await store.put("k", pieces(data), expected=expected)
    with pytest.raises(ObjectMissing):
        await store.head("k")
    right = Expected(len(data), "sha256:" + hashlib.sha256(data).hexdigest())
    assert (await store.put("k", pieces(data), expected=right)).size == 5


@pytest.mark.parametrize("before", [1, 20])
async def test_a_put_that_breaks_off_leaves_nothing(store, kit, before):
    async def broken():
        for _ in range(before):
            yield b"x" * MIB
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await store.put("k", broken())
    with pytest.raises(ObjectMissing):
        await store.head("k")
    assert kit.left() == []


@pytest.mark.parametrize("before", [1, 20])
async def test_a_put_that_is_cancelled_leaves_nothing(store, kit, before):
    waits = asyncio.Event()

    async def endless():
        for _ in range(before):
            yield b"x" * MIB
        waits.set()
        await asyncio.Event().wait()

    putting = asyncio.create_task(store.put("k", endless()))
    await waits.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert kit.left() == []


@everywhere
async def test_large_objects_are_whole_and_as_announced(store, kit):
    data = [bytes([n]) * MIB for n in range(20)]
    right = Expected(20 * MIB, sum_of(b"".join(data)))
    for wrong in (Expected(size=20 * MIB - 1), Expected(size=20 * MIB + 1), Expected(sha256="sha256:" + "0" * 64)):
        with pytest.raises(ObjectMismatch):
            await store.put("k", pieces(*data), expected=wrong)
    assert kit.left() == []
    assert (await store.put("k", pieces(*data), expected=right, if_absent=True)).size == 20 * MIB
    with pytest.raises(ObjectExists):
        await store.put("k", pieces(*data), expected=right, if_absent=True)
    assert sum_of(await get(store, "k")) == right.sha256
    assert await get(store, "k", start=5 * MIB - 1, stop=7 * MIB + 1) == b"\4" + data[5] + data[6] + b"\7"
    assert len(kit.left()) == 1


async def test_pieces_are_small(store):
    await store.put("k", pieces(b"x" * 5 * MIB))
    assert max([len(piece) async for piece in store.get("k")]) <= MIB


async def test_lists_and_deletes(store):
    for key in ("t/a/1", "t/a/2", "t/ab/3", "u/a/4"):
        await store.put(key, pieces(b"x"))
    assert await names(store, "t/a/") == ["t/a/1", "t/a/2"]
    assert await names(store, "t/") == ["t/a/1", "t/a/2", "t/ab/3"]
    for _ in range(2):
        await store.delete("t/a/1")
    assert await names(store, "t/a/") == ["t/a/2"]
    await store.delete_all(["t/a/1", "t/a/2", "u/a/4"])
    await store.delete_all([])
    assert await names(store, "u/") == []
    assert await names(store, "t/") == ["t/ab/3"]
    assert await names(store, "nothing/") == []


ASTRAY = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    "a\0b",
    "a b",
    "a\\b",
    "ä",
    "x" * 900,
    "a\n",
]


async def test_keys_that_lead_astray_are_refused(store):
    for key in ASTRAY:
        with pytest.raises(KeyRefused):
            await store.put(key, pieces(b"x"))
        with pytest.raises(KeyRefused):
            await get(store, key)
        with pytest.raises(KeyRefused):
            await store.delete(key)
        with pytest.raises(KeyRefused):
            await store.delete_all([key])
        with pytest.raises(KeyRefused):
            await store.begin(key, announced(b"x"))
        with pytest.raises(KeyRefused):
            store.presign("GET", key)


async def test_objects_pass_in_constant_memory(store, kit):
    async def much():
        for _ in range(96):
            yield b"x" * MIB

    tracemalloc.start()
    try:
        await store.put("big", much())
        size = 0
        async for piece in store.get("big"):
            size += len(piece)
        assert size == 96 * MIB
        assert tracemalloc.get_traced_memory()[1] < kit.memory
    finally:
        tracemalloc.stop()


def sum_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def announced(*data):
    return [Part(size=len(one), sha256=sum_of(one)) for one in data]


MIN = 5 * 1024 * 1024
"""Bytes of a part that is not the last one, at least, on services that count."""
DATA = (b"a" * MIN, b"b" * MIN, b"end")


async def test_presigned_requests_need_nothing_else(store, http):
    data = b"12345"
    put = store.presign("PUT", "a/b", Expected(5, sum_of(data)))
    assert await send(http, put, data) in (200, 204)
    assert await send(http, put, data) in (200, 204)
    answer = await http.get(store.presign("GET", "a/b").url)
    assert (answer.status_code, answer.content) == (200, data)
    answer = await http.get(store.presign("GET", "a/b").url, headers={"Range": "bytes=1-3"})
    assert (answer.status_code, answer.content) == (206, b"234")
    answer = await http.get(store.presign("GET", "a/none").url)
    assert answer.status_code == 404


async def test_an_object_of_parts_that_come_in_any_order(store, http):
    parts = announced(*DATA)
    upload = await store.begin("a/b", parts)
    assert await store.arrived("a/b", upload, parts) == frozenset()
    for number in (2, 0):
        assert await send(http, store.presign_part("a/b", upload, number, parts), DATA[number]) in (200, 204)
    assert await store.arrived("a/b", upload, parts) == {0, 2}
    with pytest.raises(ObjectMismatch, match="1"):
        await store.finish("a/b", upload, parts)
    with pytest.raises(ObjectMissing):
        await store.head("a/b")
    for number in (1, 1, 2):  # again: harmless
        assert await send(http, store.presign_part("a/b", upload, number, parts), DATA[number]) in (200, 204)
    for _ in range(2):
        assert (await store.finish("a/b", upload, parts)).size == 2 * MIN + 3
    assert await get(store, "a/b") == b"".join(DATA)
    await store.abandon("a/b", upload)
    assert (await store.head("a/b")).size == 2 * MIN + 3


async def test_parts_are_sent_at_once(store, http):
    parts = announced(*DATA)
    upload = await store.begin("k", parts)
    await asyncio.gather(
        *(send(http, store.presign_part("k", upload, number, parts), data) for number, data in enumerate(DATA))
    )
    await store.finish("k", upload, parts)
    assert await get(store, "k", start=MIN - 1, stop=MIN + 1) == b"ab"


async def test_a_part_that_is_not_the_announced_one(store, http):
    """Where the service does not refuse it, its size says so at the end."""
    parts = announced(b"right", b"end")
    upload = await store.begin("k", parts)
    if (await store.probe()).checked_parts:
        assert await send(http, store.presign_part("k", upload, 0, parts), b"wrong") >= 400
    await send(http, store.presign_part("k", upload, 0, parts), b"longer than that")
    await send(http, store.presign_part("k", upload, 1, parts), b"end")
    assert await store.arrived("k", upload, parts) == {1}
    with pytest.raises(ObjectMismatch, match="0"):
        await store.finish("k", upload, parts)
    assert await send(http, store.presign_part("k", upload, 0, parts), b"right") in (200, 204)
    assert await store.arrived("k", upload, parts) == {0, 1}


async def test_an_upload_that_was_given_up(store, http, kit):
    parts = announced(b"right")
    upload = await store.begin("k", parts)
    transfer = store.presign_part("k", upload, 0, parts)
    assert await send(http, transfer, b"right") in (200, 204)
    for _ in range(2):
        await store.abandon("k", upload)
    for work in (store.arrived, store.finish):
        with pytest.raises(UploadMissing):
            await work("k", upload, parts)
    assert await send(http, transfer, b"right") >= 400
    assert kit.left() == []


@everywhere
async def test_a_probe_leaves_nothing(store, kit):
    found = await store.probe()
    assert found.kind == ("s3" if hasattr(store, "_bucket") else "folder")
    assert kit.left() == []


async def test_lists_go_over_pages(store):
    """The suite has pages of three."""
    keys = [f"many/{n}" for n in range(7)]
    await asyncio.gather(*(store.put(key, pieces(b"x")) for key in keys))
    assert await names(store, "many/") == keys
    await store.delete_all(keys[:6])
    assert await names(store, "many/") == keys[6:]


async def test_uploads_under_way_are_listed(store, http):
    parts = [Part(sha256=sum_of(b"x"), size=1)]
    begun = {(key, await store.begin(key, parts)) for key in ("t/a/1", "t/a/2", "t/a/2", "u/1")}

    async def there(prefix):
        found = [item async for item in store.uploads(prefix)]
        assert all(item.since < datetime.now(UTC) + timedelta(minutes=1) for item in found)
        return {(item.key, item.upload) for item in found}

    assert await there("t/a/") == {item for item in begun if item[0].startswith("t/a/")}
    assert await there("nothing/") == set()
    for key, upload in begun:
        await store.abandon(key, upload)
    assert await there("t/") == set()


async def test_arrived_parts_go_over_pages(store, http):
    data = [b"%d" % n for n in range(7)]
    parts = announced(*data)
    upload = await store.begin("k", parts)
    for number in range(7):
        assert await send(http, store.presign_part("k", upload, number, parts), data[number]) in (200, 204)
    assert await store.arrived("k", upload, parts) == set(range(7))
    await store.abandon("k", upload)


async def test_a_folder_resumes_uploads_after_a_restart(tmp_path, signer):
    parts = announced(b"one", b"two")
    store = FolderStore(tmp_path / "store", signer.sign)
    upload = await store.begin("k", parts)
    await store.put_part("k", Slot(upload, 1, 3), pieces(b"t", b"wo"), Expected(3, parts[1].sha256))
    with pytest.raises(ObjectMismatch):
        await store.put_part("k", Slot(upload, 0, 0), pieces(b"oh!"), Expected(3, parts[0].sha256))
    again = FolderStore(tmp_path / "store", signer.sign)
    assert await again.arrived("k", upload, parts) == {1}
    await again.put_part("k", Slot(upload, 0, 0), pieces(b"one"), Expected(3, parts[0].sha256))
    await again.put_part("k", Slot(upload, 0, 0), pieces(b"oh!"), Expected(3, parts[0].sha256))
    await again.finish("k", upload, parts)
    assert await get(again, "k") == b"onetwo"
    assert list((tmp_path / "store" / "uploads").iterdir()) == []


async def dropped(http, store, key, name, data=b"old"):
    """What a PUT says that names a file of the folder of drops."""
    request = store.presign("PUT", key, Expected(3, "sha256:" + "0" * 64))
    return (await http.put(request.url, headers={DROP_HEADER: name})).status_code


async def test_a_folder_takes_files_of_its_own_machine(tmp_path, signer):
    async with stores.folder(tmp_path, signer) as kit:
        drops, (one, two, three) = drops_in(tmp_path / "store"), ("1" * 32, "2" * 32, "3" * 32)
        (drops / one).write_bytes(b"new")
        (drops / two).write_bytes(b"other")
        (drops / three).symlink_to(tmp_path / "signer")
        assert await dropped(kit.http, kit.store, "a/k", one) == 204
        assert await get(kit.store, "a/k") == b"new"
        assert await dropped(kit.http, kit.store, "a/k", one) == 404, "it is gone"
        assert await dropped(kit.http, kit.store, "a/k", two) == 204
        assert await get(kit.store, "a/k") == b"new", "what is there stays"
        for name in (three, "../objects/a/k", "4" * 32, "", "x" * 32):
            assert await dropped(kit.http, kit.store, "a/l", name) == 404
        assert list(drops.iterdir()) == []
        assert await names(kit.store, "a/") == ["a/k"]


async def test_a_folder_removes_what_killed_processes_dropped(tmp_path, signer, monkeypatch):
    store = FolderStore(tmp_path / "store", signer.sign)
    drops = drops_in(tmp_path / "store")
    for name in ("1" * 32, "2" * 32):
        (drops / name).write_bytes(b"left")
    now = time.time()
    for seconds, left in ((3500, ["2" * 32]), (3700, [])):
        (drops / ("1" * 32)).write_bytes(b"new")
        monkeypatch.setattr("gateway.stores.folder.time.time", lambda seconds=seconds: now + seconds)
        await store.take(f"k{seconds}", "1" * 32)
        assert [path.name for path in drops.iterdir()] == left


def query(transfer):
    from urllib.parse import parse_qsl, urlsplit

    return dict(parse_qsl(urlsplit(transfer.url).query))


def test_a_url_is_for_one_request(tmp_path, signer):
    store = FolderStore(tmp_path / "store", signer.sign)
    expected = Expected(5, "sha256:" + "0" * 64)
    transfer = store.presign("PUT", "a/b", expected)
    assert transfer.url.startswith("http://gateway/v1/objects/a/b?")
    params = query(transfer)
    assert signer.check("PUT", "a/b", params) == Grant(expected)
    forged = [
        ("GET", "a/b", params),
        ("PUT", "a/c", params),
        ("PUT", "a/b", params | {"size": "6"}),
        ("PUT", "a/b", params | {"expires": str(int(params["expires"]) + 1)}),
        ("PUT", "a/b", params | {"method": "GET"}),
        ("GET", "a/b", params | {"method": "GET"}),
        ("PUT", "a/b", {name: value for name, value in params.items() if name != "size"}),
        ("PUT", "a/b", params | {"signature": "0" * 64}),
        ("PUT", "a/b", params | {"upload": "0" * 32, "part": "0", "offset": "0"}),
        ("PUT", "a/b", {}),
    ]
    for method, key, given in forged:
        with pytest.raises(UrlRefused):
            signer.check(method, key, given)
    Time.now = NOW + timedelta(seconds=901)
    with pytest.raises(UrlRefused):
        signer.check("PUT", "a/b", params)
