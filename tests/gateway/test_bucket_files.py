"""Looks at users' buckets, and the requests that read just what was seen: moto, and Swift, which checks signatures."""

import contextlib

import httpx
import pytest

from gateway.stores.base import ObjectMissing, StoreDenied, StoreUnavailable
from gateway.stores.references import TooMany
from gateway.stores.s3 import BucketFiles, Connection, connect
from tests.contracts.stores import connection


@pytest.fixture(params=["moto", pytest.param("swift", marks=pytest.mark.services)])
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def bucket(server):
    return server.bucket()


@pytest.fixture
def put(server, bucket):
    with contextlib.closing(server.client()) as client:
        yield lambda key, data: client.put_object(Bucket=bucket, Key=key, Body=data)["ETag"]


@pytest.fixture
async def files(server):
    files = BucketFiles(connect(connection(server)), age=900)
    yield files
    await files.close()


async def test_a_file_is_found_and_read_while_it_is_the_same(server, bucket, put, files):
    etag = put("a/table one.csv", b"x,y\n1,2\n")
    address = f"s3://{bucket}/a/table one.csv"
    (found,) = await files.files(address, 10)
    assert (found.address, found.size, found.etag) == (address, 8, etag)
    read = files.read(found)
    assert read.open_to is None
    assert read.get.headers == {"If-Match": etag}
    assert "if-match" in read.get.url.lower(), "the condition is signed"
    async with httpx.AsyncClient() as http:
        answer = await http.get(read.get.url, headers=read.get.headers)
        assert (answer.status_code, answer.content) == (200, b"x,y\n1,2\n")
        part = await http.get(read.get.url, headers=read.get.headers | {"Range": "bytes=4-"})
        assert (part.status_code, part.content) == (206, b"1,2\n")
        put("a/table one.csv", b"others\n")
        assert (await http.get(read.get.url, headers=read.get.headers)).status_code == 412


@pytest.mark.services
async def test_a_request_without_its_condition_is_no_request(swift):
    bucket = swift.bucket()
    with contextlib.closing(swift.client()) as client:
        client.put_object(Bucket=bucket, Key="a.csv", Body=b"rows")
    files = BucketFiles(connect(connection(swift)), age=900)
    (found,) = await files.files(f"s3://{bucket}/a.csv", 10)
    async with httpx.AsyncClient() as http:
        assert (await http.get(files.read(found).get.url)).status_code == 403
    await files.close()


async def test_a_folder_is_its_files_in_the_order_of_their_names(bucket, put, files):
    for name in ("part-2", "part-10", "part-1", "deeper/part-0", "_SUCCESS", ".hidden", "_temporary/part-9"):
        put(f"data/{name}", name.encode())
    put("data/", b"")
    put("database/part-0", b"other")
    found = await files.files(f"s3://{bucket}/data/", 10)
    names = [file.address.removeprefix(f"s3://{bucket}/data/") for file in found]
    assert names == ["deeper/part-0", "part-1", "part-10", "part-2"]
    assert [file.size for file in found] == [len(name) for name in names]
    async with httpx.AsyncClient() as http:
        for file, name in zip(found, names, strict=True):
            get = files.read(file).get
            assert (await http.get(get.url, headers=get.headers)).content == name.encode()


async def test_what_is_not_there_is_told(bucket, files):
    with pytest.raises(ObjectMissing, match=f"s3:GetObject on s3://{bucket}/a.csv"):
        await files.files(f"s3://{bucket}/a.csv", 10)
    with pytest.raises(ObjectMissing, match="no files in this folder"):
        await files.files(f"s3://{bucket}/data/", 10)
    with pytest.raises(StoreDenied, match="NoSuchBucket"):
        await files.files("s3://no-such-bucket-at-all/data/", 10)


async def test_more_files_than_are_taken(bucket, put, files):
    for number in range(4):
        put(f"data/{number}", b"x")
    assert len(await files.files(f"s3://{bucket}/data/", 4)) == 4
    with pytest.raises(TooMany):
        await files.files(f"s3://{bucket}/data/", 3)


async def test_versions_are_read_by_their_name(moto, tmp_path):
    bucket = moto.bucket()
    with contextlib.closing(moto.client()) as client:
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        first = client.put_object(Bucket=bucket, Key="a.csv", Body=b"first")
        files = BucketFiles(connect(connection(moto)), age=900)
        (found,) = await files.files(f"s3://{bucket}/a.csv", 10)
        assert found.version == first["VersionId"]
        client.put_object(Bucket=bucket, Key="a.csv", Body=b"second")
    get = files.read(found).get
    async with httpx.AsyncClient() as http:
        assert (await http.get(get.url, headers=get.headers)).content == b"first"
    await files.close()


@pytest.mark.services
async def test_a_key_that_may_not_is_told(swift):
    bucket = swift.bucket()
    wrong = Connection(swift.endpoint, access_key=swift.access_key, secret_key="wrong", attempts=1)
    files = BucketFiles(connect(wrong), age=900)
    with pytest.raises(StoreDenied, match=f"s3:GetObject on s3://{bucket}/a.csv"):
        await files.files(f"s3://{bucket}/a.csv", 10)
    await files.close()


async def test_a_service_that_is_away_may_come_back():
    files = BucketFiles(connect(Connection("http://127.0.0.1:1", access_key="a", secret_key="b", attempts=1)), age=900)
    with pytest.raises(StoreUnavailable, match="s3:ListBucket on s3://bucket/data/"):
        await files.files("s3://bucket/data/", 10)
    await files.close()
