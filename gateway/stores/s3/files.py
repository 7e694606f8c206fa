"""Files in users' buckets: looked at with the gateway's key, read by requests that it signs for these bytes alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from flaregate_wire.blobs import Transfer
from flaregate_wire.references import RemoteFile, RemoteRead
from gateway.stores.base import ObjectMissing
from gateway.stores.references import TooMany
from gateway.stores.s3.errors import translate

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
_THREADS = 4
_UNVERSIONED = "null"


class BucketFiles:
    """s3:// for users, of one service. Which buckets a user may name is not decided here."""

    def __init__(self, client: S3Client, age: float) -> None:
        """`age`: seconds that a request is good for."""
        self._client = client
        self._age = age
        self._threads = ThreadPoolExecutor(_THREADS, "references")

    def fault(self, address: str) -> str | None:
        return None

    async def files(self, address: str, most: int) -> tuple[RemoteFile, ...]:
        bucket, key = _parts(address)
        if address.endswith("/"):
            return await self._run("list_objects_v2", address, lambda: self._listed(bucket, key, most))
        return (await self._run("head_object", address, lambda: self._one(bucket, key)),)

    async def _run(self, operation: str, address: str, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except (ClientError, BotoCoreError) as error:
            raise translate(error, operation, address) from error

    def _one(self, bucket: str, key: str) -> RemoteFile:
        found = self._client.head_object(Bucket=bucket, Key=key)
        version = found.get("VersionId")
        return RemoteFile(
            address=f"s3://{bucket}/{key}",
            size=found["ContentLength"],
            version=None if version == _UNVERSIONED else version,
            etag=found.get("ETag"),
        )

    def _listed(self, bucket: str, prefix: str, most: int) -> tuple[RemoteFile, ...]:
        found: list[RemoteFile] = []
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", ()):
                if _is_data(item["Key"].removeprefix(prefix)):
                    address = f"s3://{bucket}/{item['Key']}"
                    found.append(RemoteFile(address=address, size=item["Size"], etag=item.get("ETag")))
            if len(found) > most:
                raise TooMany
        if not found:
            raise ObjectMissing("there are no files in this folder; correct its address")
        return tuple(sorted(found, key=lambda file: file.address))

    def read(self, file: RemoteFile) -> RemoteRead:
        bucket, key = _parts(file.address)
        same = {} if file.etag is None else {"IfMatch": file.etag}
        version = {} if file.version is None else {"VersionId": file.version}
        url = self._client.generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": key, **same, **version}, ExpiresIn=int(self._age)
        )
        headers = {} if file.etag is None else {"If-Match": file.etag}
        return RemoteRead(file=file, get=Transfer(method="GET", url=url, headers=headers))

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()


def _parts(address: str) -> tuple[str, str]:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    return bucket, key


def _is_data(name: str) -> bool:
    """Not the folder itself, and not what programs leave beside data: names that begin with a dot or an underscore."""
    return not name.endswith("/") and name != "" and not any(part[0] in "._" for part in name.split("/") if part)
