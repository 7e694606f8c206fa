"""Presigned requests and the bucket itself by curl and the AWS command line, as users have them, on a real S3 server."""

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from flaregate_wire.blobs import Part
from gateway.stores.base import Expected, ObjectMismatch
from tests.contracts import stores
from tests.contracts.stores import MIB, PREFIX
from tests.servers.s3 import environment

AWS = Path(sys.executable).with_name("aws")
DATA = b"a quick brown fox"

pytestmark = pytest.mark.services


def sum_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def right(data):
    return Expected(len(data), sum_of(data))


@pytest.fixture
async def kit(swift, tmp_path):
    async with stores.bucket(swift, tmp_path) as kit:
        await kit.store.probe()
        yield kit


@pytest.fixture
def aws(swift, kit, tmp_path):
    """Run an `aws s3 …` command on the bucket; gives its output."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    given = {
        "AWS_ACCESS_KEY_ID": swift.access_key,
        "AWS_SECRET_ACCESS_KEY": swift.secret_key,
        "AWS_DEFAULT_REGION": swift.region,
        "AWS_CONFIG_FILE": str(tmp_path / "aws.ini"),
    }
    (tmp_path / "aws.ini").write_text("[default]\ns3 =\n  addressing_style = path\n  signature_version = s3v4\n")

    def run(*arguments):
        command = [sys.executable, AWS, "--endpoint-url", swift.endpoint, "s3", *arguments]
        return subprocess.run(command, env=clean | given, capture_output=True, check=True, timeout=60).stdout

    return run


def curl(transfer, *more, data=None, path=None):
    """Make a presigned request; gives status and body."""
    headers = [word for name, value in transfer.headers.items() for word in ("-H", f"{name}: {value}")]
    sent = [] if data is None else ["--data-binary", "@-"]
    sent = sent if path is None else ["-T", str(path)]
    command = ["curl", "-sS", "-X", transfer.method, *headers, *sent, "-w", "\n%{http_code}", *more, transfer.url]
    done = subprocess.run(command, input=data, capture_output=True, check=True, timeout=60)
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


async def read(store, key):
    return b"".join([piece async for piece in store.get(key)])


async def test_what_the_aws_command_line_writes_the_store_reads(kit, aws, tmp_path):
    bucket = kit.store._bucket._name
    (tmp_path / "large").write_bytes(data := os.urandom(20 * MIB))
    await asyncio.to_thread(aws, "cp", str(tmp_path / "large"), f"s3://{bucket}/{PREFIX}/theirs/large")
    assert (await kit.store.head("theirs/large")).size == len(data)
    assert await read(kit.store, "theirs/large") == data


async def test_what_the_store_writes_the_aws_command_line_reads(kit, aws):
    bucket = kit.store._bucket._name

    async def pieces():
        for n in range(20):
            yield bytes([n]) * MIB

    await kit.store.put("ours/large", pieces())
    listed = (await asyncio.to_thread(aws, "ls", "--recursive", f"s3://{bucket}/")).decode()
    assert [line.split()[2:] for line in listed.splitlines()] == [[str(20 * MIB), f"{PREFIX}/ours/large"]]
    found = await asyncio.to_thread(aws, "cp", f"s3://{bucket}/{PREFIX}/ours/large", "-")
    assert sum_of(found) == sum_of(b"".join(bytes([n]) * MIB for n in range(20)))


async def test_curl_reads_urls_of_the_store_and_of_the_aws_command_line(kit, aws):
    bucket = kit.store._bucket._name
    put = kit.store.presign("PUT", "k", right(DATA))
    assert curl(put, data=DATA) == (200, b"")
    ours = kit.store.presign("GET", "k")
    theirs = (await asyncio.to_thread(aws, "presign", "--expires-in", "900", f"s3://{bucket}/{PREFIX}/k")).decode()
    theirs = ours.model_copy(update={"url": theirs.strip()})
    for transfer in (ours, theirs):
        assert curl(transfer) == (200, DATA)
        assert curl(transfer, "-r", "2-6") == (206, DATA[2:7])
    assert urlsplit(ours.url).path == urlsplit(theirs.url).path
    assert {name for name, _ in parse_qsl(urlsplit(ours.url).query)} == {
        name for name, _ in parse_qsl(urlsplit(theirs.url).query)
    }


async def test_a_presigned_put_takes_the_announced_bytes_alone(kit, tmp_path):
    put = kit.store.presign("PUT", "k", right(DATA))
    assert curl(put, data=DATA[::-1])[0] == 400
    assert curl(put, data=DATA + b"!")[0] == 403
    assert curl(put, data=DATA[:-1])[0] == 403
    assert curl(put.model_copy(update={"headers": {}}), data=DATA)[0] == 403
    assert kit.left() == []
    (tmp_path / "file").write_bytes(DATA)
    assert curl(put, path=tmp_path / "file")[0] == 200
    assert await read(kit.store, "k") == DATA


async def test_a_presigned_request_is_for_one_key_one_method_and_some_time(kit, swift, tmp_path):
    await kit.store.put("k", _once(DATA))
    get = kit.store.presign("GET", "k")
    forged = [
        {"url": get.url.replace("/k?", "/other?")},
        {"url": re.sub("X-Amz-Expires=[0-9]+", "X-Amz-Expires=90000", get.url)},
        {"url": re.sub("X-Amz-Signature=[0-9a-f]{4}", "X-Amz-Signature=0000", get.url)},
        {"method": "DELETE"},
        {"method": "PUT"},
    ]
    for change in forged:
        assert curl(get.model_copy(update=change), data=None)[0] == 403, change
    (tmp_path / "short").mkdir()
    async with stores.bucket(swift, tmp_path / "short", age=1) as short:
        await short.store.put("k", _once(DATA))
        get = short.store.presign("GET", "k")
        until = time.monotonic() + 20
        while (status := curl(get)[0]) == 200 and time.monotonic() < until:
            await asyncio.sleep(0.2)
        assert status == 403


async def _once(data):
    yield data


async def test_curl_sends_parts(kit, aws, tmp_path):
    store = kit.store
    data = [os.urandom(5 * MIB), os.urandom(5 * MIB), b"end"]
    parts = [Part(size=len(one), sha256=sum_of(one)) for one in data]
    upload = await store.begin("k", parts)
    for number, one in enumerate(data):
        (tmp_path / str(number)).write_bytes(one)
    wrong = store.presign_part("k", upload, 2, parts)
    assert curl(wrong, data=b"eND")[0] == 400

    def send(number):
        return curl(store.presign_part("k", upload, number, parts), path=tmp_path / str(number))[0]

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(send, (1, 0))) == [200, 200]
    assert await store.arrived("k", upload, parts) == {0, 1}
    with pytest.raises(ObjectMismatch, match="2"):
        await store.finish("k", upload, parts)
    assert send(2) == 200
    await store.finish("k", upload, parts)
    found = await asyncio.to_thread(aws, "cp", f"s3://{store._bucket._name}/{PREFIX}/k", "-")
    assert found == b"".join(data)


def test_a_blob_is_staged_with_curl_past_the_gateway(swift, tmp_path):
    """The bytes go to the bucket; the gateway has none of them, and says nothing of what it does not serve."""
    from flaregate_wire.blobs import Transfer

    home = tmp_path / "home"
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway"],
        env=environment(home, swift, swift.bucket(), S3_PREFIX="here"),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = process.stdout.readline().split()[-1]
        token = {"Authorization": f"Bearer {(home / 'token').read_text().strip()}", "Content-Type": "application/json"}
        offer = {"sha256": sum_of(DATA), "size": len(DATA), "media_type": "text/plain"}
        offers = Transfer(method="POST", url=f"{url}/v1/blobs", headers=token)
        status, body = curl(offers, data=json.dumps(offer).encode())
        assert status == 201
        (sending,) = json.loads(body)["upload"]
        assert sending["url"].startswith(f"{swift.endpoint}/")
        send = Transfer(method=sending["method"], url=sending["url"], headers=sending["headers"])
        assert curl(send, data=DATA[::-1])[0] == 400
        assert curl(send, data=DATA)[0] == 200
        complete = Transfer(method="POST", url=f"{url}/v1/blobs/{offer['sha256']}:complete", headers=token)
        assert curl(complete)[0] == 204
        status, body = curl(offers, data=json.dumps(offer).encode())
        assert (status, json.loads(body)["exists"]) == (200, True)
        served = Transfer(method="GET", url=f"{url}/v1/objects/tenants/x", headers=token)
        assert curl(served)[0] == 404
        status, body = curl(Transfer(method="GET", url=f"{url}/readyz"))
        assert json.loads(body)["store"] == {"kind": "s3", "conditional_put": True, "checked_parts": True}
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()
