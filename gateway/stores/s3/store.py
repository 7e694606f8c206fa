"""A store in a bucket: what the contract says, in operations of S3."""

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from flaregate_wire.blobs import Part, Transfer
from gateway.stores.base import (
    ANYTHING,
    Abilities,
    Begun,
    Expected,
    Method,
    ObjectExists,
    ObjectInfo,
    ObjectMismatch,
    ObjectMissing,
    StoreUnavailable,
    UploadMissing,
    checked,
)
from gateway.stores.checks import Check
from gateway.stores.s3.bucket import Bucket
from gateway.stores.s3.errors import RangeEmpty
from gateway.stores.s3.probing import NAMED, probe
from gateway.stores.s3.writing import Claim, Writer

PIECE = 1024 * 1024
REOPENINGS = 5
"""Times in a row that a read which broke off without a byte is taken up again."""
MEDIA_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Seal:
    """How the service encrypts what it keeps; None: as the bucket says."""

    algorithm: Literal["AES256", "aws:kms"] | None = None
    key: str | None = None

    @property
    def arguments(self) -> dict[str, str]:
        """For boto3."""
        found = {"ServerSideEncryption": self.algorithm, "SSEKMSKeyId": self.key}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def headers(self) -> dict[str, str]:
        """For a presigned request."""
        found = {
            "x-amz-server-side-encryption": self.algorithm,
            "x-amz-server-side-encryption-aws-kms-key-id": self.key,
        }
        return {name: value for name, value in found.items() if value is not None}


UNSEALED = Seal()


class S3Store:
    """Objects in a bucket. `claim` decides who comes first where the service does not; `age` is that of URLs."""

    def __init__(self, bucket: Bucket, age: float, claim: Claim, seal: Seal = UNSEALED) -> None:
        self._bucket = bucket
        self._age = age
        self._seal = seal
        self._writer = Writer(bucket, seal.arguments, claim)
        self._checked = False

    async def get(self, key: str, *, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        if stop is not None and stop <= start:
            await self.head(key)
            return
        position, etag, failed = start, "", 0
        while stop is None or position < stop:
            try:
                answer = await self._open(key, position, stop, etag)
            except RangeEmpty:
                return
            body, etag = answer["Body"], answer["ETag"]
            end = position + answer["ContentLength"]
            try:
                while piece := await self._bucket.run("get_object", key, partial(body.read, PIECE)):
                    position += len(piece)
                    failed = 0
                    yield piece
            except StoreUnavailable:
                failed += 1
                if failed > REOPENINGS:
                    raise
                continue
            finally:
                body.close()
            if position >= end:
                return

    async def _open(self, key: str, start: int, stop: int | None, etag: str) -> dict[str, Any]:
        """Read on where it broke off, if it is the same object still."""
        more = {"IfMatch": etag} if etag else {}
        if start or stop is not None:
            more["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        try:
            return await self._bucket.call("get_object", key, **more)
        except ObjectExists as error:  # the condition does not hold
            raise ObjectMismatch(f"{key} was changed while it was read") from error

    async def head(self, key: str) -> ObjectInfo:
        found = await self._bucket.call("head_object", key)
        return ObjectInfo(key, found["ContentLength"], found["LastModified"])

    async def put(
        self, key: str, pieces: AsyncIterator[bytes], *, if_absent: bool = False, expected: Expected = ANYTHING
    ) -> ObjectInfo:
        checked(key)
        await self._writer.write(key, pieces, Check(expected), if_absent=if_absent)
        return await self.head(key)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        checked(prefix.rstrip("/"))
        after = None
        while True:
            page = await self._bucket.page(prefix, after)
            for item in page.get("Contents", ()):
                key = item["Key"].removeprefix(self._bucket.prefix)
                if not key.endswith("/"):  # what consoles make to show an empty folder
                    yield ObjectInfo(key, item["Size"], item["LastModified"])
            after = page.get("NextContinuationToken")
            if not page.get("IsTruncated"):
                return

    async def delete(self, key: str) -> None:
        with suppress(ObjectMissing):
            await self._bucket.call("delete_object", key)

    async def delete_all(self, keys: Sequence[str]) -> None:
        if keys:
            await self._bucket.delete_all(keys)

    def presign(self, method: Method, key: str, expected: Expected = ANYTHING) -> Transfer:
        if method == "GET":
            return Transfer(method=method, url=self._bucket.sign("get_object", key, self._age))
        arguments, headers = self._bound(expected)
        arguments |= {"ContentType": MEDIA_TYPE, **self._seal.arguments}
        headers |= {"Content-Type": MEDIA_TYPE, **self._seal.headers}
        url = self._bucket.sign("put_object", key, self._age, **arguments)
        return Transfer(method=method, url=url, headers=headers)

    def _bound(self, expected: Expected) -> tuple[dict[str, Any], dict[str, str]]:
        """What binds a presigned PUT to its bytes: arguments to sign, and headers to send beside the length."""
        arguments: dict[str, Any] = {} if expected.size is None else {"ContentLength": expected.size}
        if expected.sha256 is None or not self._checked:
            return arguments, {}
        sha256 = _base64(expected.sha256)
        return arguments | {"ChecksumSHA256": sha256}, {"x-amz-checksum-sha256": sha256}

    async def begin(self, key: str, parts: Sequence[Part]) -> str:
        more = {"ChecksumAlgorithm": "SHA256"} if self._checked else {}
        arguments = {"ContentType": MEDIA_TYPE, **self._seal.arguments, **more}
        return str((await self._bucket.call("create_multipart_upload", key, **arguments))["UploadId"])

    def presign_part(self, key: str, upload: str, number: int, parts: Sequence[Part]) -> Transfer:
        arguments, headers = self._bound(Expected(parts[number].size, parts[number].sha256))
        url = self._bucket.sign("upload_part", key, self._age, UploadId=upload, PartNumber=number + 1, **arguments)
        return Transfer(method="PUT", url=url, headers=headers)

    async def arrived(self, key: str, upload: str, parts: Sequence[Part]) -> frozenset[int]:
        return frozenset(await self._arrived(key, upload, parts))

    async def _arrived(self, key: str, upload: str, parts: Sequence[Part]) -> dict[int, dict[str, Any]]:
        """Of each part that is there as it was announced, what finishing has to name."""
        found: dict[int, dict[str, Any]] = {}
        after = 0
        while True:
            page = await self._bucket.call(
                "list_parts", key, UploadId=upload, PartNumberMarker=after, MaxParts=self._bucket.page_size
            )
            for there in page.get("Parts", ()):
                number = there["PartNumber"] - 1
                if number < len(parts) and _is(there, parts[number]):
                    found[number] = {name: there[name] for name in NAMED if name in there}
            if not page.get("IsTruncated"):
                return found
            after = page["NextPartNumberMarker"]

    async def finish(self, key: str, upload: str, parts: Sequence[Part]) -> ObjectInfo:
        try:
            there = await self._arrived(key, upload, parts)
            missing = sorted(set(range(len(parts))) - set(there))
            if missing:
                raise ObjectMismatch(f"missing, or not as announced: parts {', '.join(map(str, missing))}")
            named = {"Parts": [there[number] for number in range(len(parts))]}
            await self._bucket.call("complete_multipart_upload", key, UploadId=upload, MultipartUpload=named)
        except UploadMissing:
            with suppress(ObjectMissing):  # finished before
                info = await self.head(key)
                if info.size == sum(part.size for part in parts):
                    return info
            raise
        return await self.head(key)

    async def abandon(self, key: str, upload: str) -> None:
        with suppress(UploadMissing, ObjectMissing):  # some services say the latter
            await self._bucket.call("abort_multipart_upload", key, UploadId=upload)

    async def uploads(self, prefix: str) -> AsyncIterator[Begun]:
        checked(prefix.rstrip("/"))
        after: dict[str, str] = {}
        while True:
            page = await self._bucket.uploads(prefix, after)
            for item in page.get("Uploads", ()):
                yield Begun(item["Key"].removeprefix(self._bucket.prefix), item["UploadId"], item["Initiated"])
            if not page.get("IsTruncated"):
                return
            after = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    async def probe(self) -> Abilities:
        found = await probe(self._bucket, self._seal.arguments)
        self._writer.conditional, self._checked = found.conditional_put, found.checked_parts
        return found

    async def close(self) -> None:
        await asyncio.to_thread(self._bucket.close)


def _base64(sha256: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256.removeprefix("sha256:"))).decode()


def _is(there: dict[str, Any], part: Part) -> bool:
    return there["Size"] == part.size and there.get("ChecksumSHA256") in (None, _base64(part.sha256))
