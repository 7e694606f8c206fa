"""What the store says and does when the service refuses, is busy or away, or breaks off."""

import asyncio
import contextlib
import os
import re
import ssl
import threading

import pytest
from botocore.awsrequest import AWSResponse
from botocore.stub import Stubber

from flaregate_wire.blobs import Part
from gateway.stores.base import (
    Abilities,
    Expected,
    ObjectExists,
    ObjectMismatch,
    ObjectMissing,
    StoreDenied,
    StoreUnavailable,
    UploadMissing,
)
from gateway.stores.readiness import Readiness
from gateway.stores.s3 import Bucket, Connection, S3Store, Seal, connect
from tests.contracts import stores
from tests.contracts.stores import MIB
from tests.servers.https import make_certificate

KEY = Connection("http://127.0.0.1:1", access_key="key", secret_key="secret", attempts=1)
NOBODY = contextlib.nullcontext


async def pieces(*parts):
    for part in parts:
        yield part


async def read(store, key, **part):
    return b"".join([piece async for piece in store.get(key, **part)])


@pytest.mark.parametrize(
    ("code", "status", "kind", "advice"),
    [
        ("NoSuchKey", 404, ObjectMissing, ""),
        ("NoSuchUpload", 404, UploadMissing, ""),
        ("PreconditionFailed", 412, ObjectExists, ""),
        ("BadDigest", 400, ObjectMismatch, ""),
        ("NoSuchBucket", 404, StoreDenied, "FLAREGATE_S3_BUCKET"),
        ("AccessDenied", 403, StoreDenied, "allow s3:PutObject"),
        ("InvalidAccessKeyId", 403, StoreDenied, "FLAREGATE_S3_ACCESS_KEY"),
        ("SignatureDoesNotMatch", 403, StoreDenied, "FLAREGATE_S3_SECRET_KEY"),
        ("RequestTimeTooSkewed", 403, StoreDenied, "clock"),
        ("ExpiredToken", 400, StoreDenied, "temporary credentials"),
        ("PermanentRedirect", 301, StoreDenied, "FLAREGATE_S3_REGION"),
        ("NeverHeardOf", 400, StoreDenied, "why it said so"),
        ("SlowDown", 503, StoreUnavailable, "try again later"),
        ("RequestTimeout", 400, StoreUnavailable, "try again later"),
        ("InternalError", 500, StoreUnavailable, "try again later"),
        ("NeverHeardOf", 502, StoreUnavailable, "try again later"),
    ],
)
async def test_what_the_service_says_in_our_words(code, status, kind, advice):
    client = connect(KEY)
    with Stubber(client) as stub:
        stub.add_client_error("put_object", code, "why it said so", status)
        with pytest.raises(kind) as raised:
            await Bucket(client, "bucket", "prefix").call("put_object", "a/b", Body=b"")
    assert type(raised.value) is kind
    told = str(raised.value)
    assert told.startswith(f"s3:PutObject on s3://bucket/prefix/a/b: {code}: why it said so")
    assert advice in told


async def test_nobody_answers():
    store = S3Store(Bucket(connect(KEY), "bucket"), 900, NOBODY)
    with pytest.raises(StoreUnavailable, match=r"s3:GetObject on s3://bucket/k: .*http://127\.0\.0\.1:1"):
        await store.head("k")
    with pytest.raises(StoreUnavailable):
        await store.probe()


async def test_no_key_at_all(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    store = S3Store(Bucket(connect(Connection("http://127.0.0.1:1", attempts=1)), "bucket"), 900, NOBODY)
    with pytest.raises(StoreDenied, match="FLAREGATE_S3_ACCESS_KEY"):
        await store.head("k")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    with pytest.raises(StoreDenied, match="set FLAREGATE_S3_REGION"):
        connect(Connection())


def test_addresses():
    """On AWS the bucket is in the host, of its region; elsewhere in the path."""
    for connection, start in (
        (Connection(region="eu-central-1"), "https://bucket.s3.eu-central-1.amazonaws.com/p/k?"),
        (Connection("https://s3.eu-de.cloud-object-storage.appdomain.cloud"), "https://s3.eu-de.cloud-object-storage.appdomain.cloud/bucket/p/k?"),
        (Connection("http://minio:9000", addressing="virtual"), "http://bucket.minio:9000/p/k?"),
    ):  # fmt: skip
        key = Connection(connection.endpoint, connection.region, connection.addressing, "key", "secret")
        assert Bucket(connect(key), "bucket", "/p/").sign("get_object", "k", 60).startswith(start)


def test_what_is_encrypted_is_presigned_so():
    store = S3Store(Bucket(connect(KEY), "bucket"), 900, NOBODY, Seal("aws:kms", "key-id"))
    transfer = store.presign("PUT", "k")
    sealed = {
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "key-id",
    }
    assert sealed.items() <= transfer.headers.items()
    signed = re.search("X-Amz-SignedHeaders=([^&]*)", transfer.url).group(1).split("%3B")
    assert set(sealed) <= set(signed)


async def test_what_is_put_is_sealed(moto, tmp_path):
    name = moto.bucket()
    client = connect(stores.connection(moto))
    store = S3Store(Bucket(client, name), 900, NOBODY, Seal("AES256"))
    await store.probe()
    await store.put("small", pieces(b"x"))
    await store.put("large", pieces(*[b"x" * MIB] * 9))
    for key in ("small", "large"):
        assert client.head_object(Bucket=name, Key=key)["ServerSideEncryption"] == "AES256"
    await store.close()


async def test_a_call_is_repeated_while_the_service_is_busy(moto, tmp_path):
    busy = [503, 503]

    def answer(request, **_):
        if busy:
            body = b"<Error><Code>SlowDown</Code><Message>not so fast</Message></Error>"
            return AWSResponse(request.url, busy.pop(), {}, _Raw(body))
        return None

    client = connect(stores.connection(moto))
    client.meta.events.register("before-send.s3", answer)
    store = S3Store(Bucket(client, moto.bucket()), 900, NOBODY)
    assert (await store.put("k", pieces(b"x"))).size == 1
    assert busy == []
    await store.close()


class _Raw:
    """A body as urllib3 has it."""

    def __init__(self, body):
        self._body = body

    def stream(self, **_):
        yield self._body


@pytest.mark.parametrize(("operation", "size"), [("PutObject", 3), ("CompleteMultipartUpload", 9 * MIB)])
async def test_a_put_whose_answer_was_lost_is_not_its_own_rival(moto, tmp_path, operation, size):
    """The first try was done and its answer lost; the repetition finds the object, which is its own."""
    async with stores.bucket(moto, tmp_path) as kit:
        await kit.store.probe()
        lost = []

        def lose(response, **_):
            if response and response[0].status_code == 200 and not lost:
                lost.append(response)
                response[0].status_code = 503
                response[1]["Error"] = {"Code": "ServiceUnavailable", "Message": "lost"}
                response[1]["ResponseMetadata"]["HTTPStatusCode"] = 503

        kit.store._bucket._client.meta.events.register_first(f"needs-retry.s3.{operation}", lose)
        assert (await kit.store.put("k", pieces(b"1" * size), if_absent=True)).size == size
        assert lost
        with pytest.raises(ObjectExists):
            await kit.store.put("k", pieces(b"2" * size), if_absent=True)
        assert await read(kit.store, "k", stop=3) == b"111"


async def test_a_part_that_fails_leaves_nothing(moto, tmp_path):
    async with stores.bucket(moto, tmp_path, attempts=1) as kit:
        refused = threading.Event()

        def refuse(request, **_):
            if "partNumber=2" in request.url:
                refused.set()
                return AWSResponse(request.url, 403, {}, _Raw(b"<Error><Code>AccessDenied</Code></Error>"))
            return None

        kit.store._bucket._client.meta.events.register("before-send.s3.UploadPart", refuse)
        with pytest.raises(StoreDenied, match="AccessDenied"):
            await kit.store.put("k", pieces(*[b"x" * MIB] * 40))
        assert refused.is_set()
        assert kit.left() == []


class Cutting:
    """Passes connections on to a server, and cuts some after so many bytes of an answer."""

    def __init__(self, port, cuts=(), tls=None):
        self._port = port
        self.cuts = list(cuts)
        self._tls = tls
        self._passing = {}

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        for _ in range(3):  # a server that is closed leaves the socket behind that it has just accepted
            await asyncio.sleep(0)
        self._server.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)
        for writer in self._passing.values():  # also of one that was cancelled before it began
            await _ended(writer)

    def _accept(self, reader, writer):
        self._passing[asyncio.create_task(self._pass(reader, writer))] = writer

    async def _pass(self, reader, writer):
        try:
            there = await asyncio.open_connection("127.0.0.1", self._port)
            await self._between(reader, writer, *there)
        finally:
            await _ended(writer)

    async def _between(self, reader, writer, their_reader, their_writer):
        asking = asyncio.create_task(self._copy(reader, their_writer, None))
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await self._copy(their_reader, writer, self.cuts.pop(0) if self.cuts else None)
        finally:
            asking.cancel()
            await _ended(their_writer)
            await asyncio.wait([asking])

    async def _copy(self, reader, writer, limit):
        while data := await reader.read(65536):
            if limit is not None:
                data = data[:limit]
                limit -= len(data)
            writer.write(data)
            await writer.drain()
            if limit == 0:
                return


async def _ended(writer):
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_a_read_that_breaks_off_goes_on_where_it_was(moto, tmp_path):
    data = os.urandom(6 * MIB)
    async with stores.bucket(moto, tmp_path) as kit:
        await kit.store.put("k", pieces(data))
        name = kit.store._bucket._name
        port = int(moto.endpoint.rpartition(":")[2])
        async with Cutting(port, [MIB + 700, 2 * MIB, 3000]) as between:
            connection = Connection(f"http://127.0.0.1:{between.port}", access_key="any", secret_key="key")
            store = S3Store(Bucket(connect(connection), name, stores.PREFIX), 900, NOBODY)
            assert await read(store, "k") == data
            assert between.cuts == []
            between.cuts += [MIB, MIB]
            assert await read(store, "k", start=5, stop=5 * MIB) == data[5 : 5 * MIB]
            await store.close()


async def test_an_object_that_changes_while_it_is_read(moto, tmp_path):
    async with stores.bucket(moto, tmp_path) as kit:
        await kit.store.put("k", pieces(b"x" * 4 * MIB))
        port = int(moto.endpoint.rpartition(":")[2])
        async with Cutting(port, [2 * MIB]) as between:
            connection = Connection(f"http://127.0.0.1:{between.port}", access_key="any", secret_key="key")
            store = S3Store(Bucket(connect(connection), kit.store._bucket._name, stores.PREFIX), 900, NOBODY)
            reading = store.get("k")
            await anext(reading)
            await kit.store.put("k", pieces(b"y" * 4 * MIB))
            with pytest.raises(ObjectMismatch, match="changed"):
                async for _ in reading:
                    pass
            await store.close()


class Asked:
    """A store that answers as it is told."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def _next(self, how):
        self.asked.append(how)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def probe(self):
        return self._next("probe")

    async def head(self, key):
        return self._next("head")


async def test_readiness_asks_again_until_it_is_answered():
    able = Abilities("s3", conditional_put=True, checked_parts=False)
    now = [0.0]
    store = Asked(
        StoreUnavailable("away"), StoreUnavailable("away"), able, ObjectMissing("probe"), StoreDenied("no"), None
    )
    readiness = Readiness(store, lambda: now[0])
    await readiness.begin()
    found = []
    for _ in range(5):
        found += [await readiness.look(), await readiness.look()]
        now[0] += 5
    assert found[2:] == [None, None, able, able, able, able, None, None]
    assert store.asked == ["probe", "probe", "probe", "head", "head"]


async def test_a_store_that_refuses_ends_the_start():
    with pytest.raises(StoreDenied):
        await Readiness(Asked(StoreDenied("no"))).begin()


async def test_a_key_that_may_not_list_is_found_out_at_the_start(moto):
    """AWS answers 403 to such a key for what is not there."""

    def forbid(request, **_):
        missing = request.method == "HEAD" and request.url.endswith("-missing")
        return AWSResponse(request.url, 403, {}, _Raw(b"")) if missing else None

    client = connect(stores.connection(moto))
    client.meta.events.register("before-send.s3", forbid)
    store = S3Store(Bucket(client, moto.bucket()), 900, NOBODY)
    with pytest.raises(StoreDenied, match="s3:ListBucket on the bucket"):
        await store.probe()
    await store.close()


async def test_a_service_that_knows_no_sums(moto):
    def refuse(request, **_):
        known = {name.lower() for name in request.headers}
        if {"x-amz-checksum-algorithm", "x-amz-checksum-sha256"} & known:
            body = b"<Error><Code>NotImplemented</Code><Message>a header implies what is not offered</Message></Error>"
            return AWSResponse(request.url, 501, {}, _Raw(body))
        return None

    client = connect(stores.connection(moto))
    client.meta.events.register("before-send.s3", refuse)
    store = S3Store(Bucket(client, moto.bucket()), 900, NOBODY)
    assert await store.probe() == Abilities("s3", conditional_put=True, checked_parts=False)
    parts = [Part(size=3, sha256="sha256:" + "0" * 64)]
    upload = await store.begin("k", parts)
    assert "checksum" not in str(store.presign_part("k", upload, 0, parts)).lower()
    assert "checksum" not in str(store.presign("PUT", "k", Expected(3, parts[0].sha256))).lower()
    await store.close()


async def test_a_certificate_of_an_own_authority(moto, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make_certificate("localhost", key, certificate)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    name = moto.bucket()
    async with Cutting(int(moto.endpoint.rpartition(":")[2]), tls=tls) as between:
        where = {
            "endpoint": f"https://localhost:{between.port}",
            "access_key": "any",
            "secret_key": "key",
            "attempts": 1,
        }
        stranger = S3Store(Bucket(connect(Connection(**where)), name), 900, NOBODY)
        with pytest.raises(StoreDenied, match="FLAREGATE_S3_CA"):
            await stranger.head("k")
        await stranger.close()
        store = S3Store(Bucket(connect(Connection(**where, ca=certificate)), name), 900, NOBODY)
        await store.put("k", pieces(b"x"))
        assert await read(store, "k") == b"x"
        await store.close()
