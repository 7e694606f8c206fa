"""Finds out what a service can do and whether the gateway's key may do it, with an object that is removed again."""

import base64
import hashlib
import secrets
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from gateway.stores.base import Abilities, ObjectExists, ObjectMissing, StoreDenied, StoreError, StoreUnavailable
from gateway.stores.s3.bucket import Bucket

FOLDER = "probes/"
NAMED = ("PartNumber", "ETag", "ChecksumSHA256")
"""What finishing an upload says of each part, as far as the list of parts has it."""
_BYTES = b"probe"
_RIGHT = base64.b64encode(hashlib.sha256(_BYTES).digest()).decode()
_WRONG = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
_Call = Callable[..., Coroutine[Any, Any, dict[str, Any]]]


async def probe(bucket: Bucket, sealed: dict[str, str]) -> Abilities:
    """Raises StoreDenied where the bucket cannot be used as it has to be, StoreUnavailable where nobody answers."""
    key = f"{FOLDER}{secrets.token_hex(16)}"
    put = partial(bucket.call, "put_object", key, Body=_BYTES, **sealed)
    await put()
    try:
        await bucket.call("head_object", key)
        with suppress(ObjectMissing):
            await bucket.call("head_object", f"{key}-missing")
        await bucket.page(FOLDER, None)
        first = await _refuses_second(put)
        whole = await _checks(put)
        finish, parts = await _in_parts(bucket, key, sealed)
    finally:
        with suppress(StoreUnavailable):
            await bucket.call("delete_object", key)
    return Abilities("s3", conditional_put=first and finish, checked_parts=whole and parts)


async def _in_parts(bucket: Bucket, key: str, sealed: dict[str, str]) -> tuple[bool, bool]:
    """Whether an upload in parts is refused at its end where an object is there already, and wrong parts are."""
    begin = partial(bucket.call, "create_multipart_upload", key, **sealed)
    try:
        upload, knows = (await begin(ChecksumAlgorithm="SHA256"))["UploadId"], True
    except StoreDenied:
        upload, knows = (await begin())["UploadId"], False
    try:
        send = partial(bucket.call, "upload_part", key, UploadId=upload, PartNumber=1, Body=_BYTES)
        parts = knows and await _checks(send)
        if not parts:
            await send()
        there = (await bucket.call("list_parts", key, UploadId=upload))["Parts"]
        named = {"Parts": [{name: part[name] for name in NAMED if name in part} for part in there]}
        finish = partial(bucket.call, "complete_multipart_upload", key, UploadId=upload, MultipartUpload=named)
        return await _refuses_second(finish), parts
    finally:
        with suppress(StoreError):
            await bucket.call("abort_multipart_upload", key, UploadId=upload)


async def _refuses_second(write: _Call) -> bool:
    """Of an object that is there already."""
    try:
        await write(IfNoneMatch="*")
    except ObjectExists:
        return True
    except StoreDenied:  # it does not take the header at all
        return False
    return False


async def _checks(write: _Call) -> bool:
    """Whether bytes are refused that are not those of the sum, and only these."""
    try:
        await write(ChecksumSHA256=_WRONG)
    except StoreUnavailable:
        raise
    except StoreError:
        with suppress(StoreDenied):
            await write(ChecksumSHA256=_RIGHT)
            return True
    return False
