"""Writes one object from a stream, whole or not at all: in one request, or in parts that are sent at once."""

import asyncio
import io
import random
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway.stores.base import ObjectExists, ObjectMissing, StoreError, UploadMissing
from gateway.stores.checks import Check
from gateway.stores.s3.bucket import Bucket
from gateway.stores.s3.errors import Conflict

PART = 8 * 1024 * 1024
"""Bytes of a part, and of an object that is sent in one request, at most."""
AT_ONCE = 3
"""Parts that are under way; with the one that is gathered they bound the memory of a put."""
CONFLICTS = 5
"""Times that a put is tried while others write the same key."""
PAUSE = 0.4
"""Seconds between them, at most."""
WRITER = "writer"
"""Name of the metadata that tells one put from another."""

Answer = dict[str, Any]
Write = Callable[..., Coroutine[Any, Any, Answer]]
Claim = Callable[[str], AbstractAsyncContextManager[None]]
"""Holds the right to write one key with `if_absent`; services let several pass that come at the same moment."""


@dataclass(frozen=True, slots=True)
class _Put:
    """One put on its way."""

    key: str
    check: Check
    if_absent: bool
    writer: str
    arguments: Answer


class Writer:
    """Writes below one bucket."""

    def __init__(self, bucket: Bucket, sealed: dict[str, str], claim: Claim) -> None:
        self._bucket = bucket
        self._sealed = sealed
        self._claim = claim
        self._running: set[asyncio.Task[Any]] = set()
        self.conditional = False
        """Whether the service refuses to replace an object; else it is looked for first, under the same claim."""

    async def write(self, key: str, pieces: AsyncIterator[bytes], check: Check, *, if_absent: bool) -> None:
        """Raises ObjectExists, ObjectMismatch."""
        writer = secrets.token_hex(16)
        arguments = {"ContentType": "application/octet-stream", "Metadata": {WRITER: writer}, **self._sealed}
        put = _Put(key, check, if_absent, writer, arguments)
        blocks = _Blocks(pieces)
        if not await blocks.fill():
            await self._in_parts(put, blocks)
            return
        body = blocks.take()
        await asyncio.to_thread(check.take, body)
        check.end()
        await self._to_end(self._place(put, partial(self._bucket.call, "put_object", key, Body=body, **arguments)))

    async def _in_parts(self, put: _Put, blocks: "_Blocks") -> None:
        begun = asyncio.create_task(self._bucket.call("create_multipart_upload", put.key, **put.arguments))
        under_way: list[asyncio.Task[Answer]] = [begun]
        try:
            upload = (await asyncio.shield(begun))["UploadId"]
            await self._send(put, upload, blocks, under_way)
            put.check.end()
            answers = [await part for part in under_way[1:]]
            parts = [{"PartNumber": number, "ETag": answer["ETag"]} for number, answer in enumerate(answers, 1)]
            finish = partial(
                self._bucket.call,
                "complete_multipart_upload",
                put.key,
                UploadId=upload,
                MultipartUpload={"Parts": parts},
            )
            await self._to_end(self._place(put, finish))
        except BaseException:
            await self._to_end(self._undo(put.key, under_way))
            raise

    async def _send(self, put: _Put, upload: str, blocks: "_Blocks", sent: list[asyncio.Task[Answer]]) -> None:
        """Send parts as they come, a few at once; each is noted in `sent`."""
        running: set[asyncio.Task[Answer]] = set()
        last = False
        while not last:
            last = await blocks.fill()
            if len(running) >= AT_ONCE:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for part in done:
                    part.result()
            block = blocks.take()
            await asyncio.to_thread(put.check.take, block)
            sent.append(asyncio.create_task(self._part(put.key, upload, len(sent), block)))
            running.add(sent[-1])

    async def _part(self, key: str, upload: str, number: int, block: bytes) -> Answer:
        with io.BytesIO(block) as body:  # closed, it holds no bytes: what boto3 leaves behind may live on for a while
            del block
            return await self._bucket.call("upload_part", key, UploadId=upload, PartNumber=number, Body=body)

    async def _undo(self, key: str, under_way: Sequence[asyncio.Task[Answer]]) -> None:
        """Wait for what is under way, so that no part comes after the end, and give the upload up."""
        await asyncio.wait(under_way)
        begun, *parts = under_way
        for part in parts:
            part.exception()  # looked at: another one is raised already
        if begun.exception() is None:
            with suppress(StoreError):
                await self._bucket.call("abort_multipart_upload", key, UploadId=begun.result()["UploadId"])

    async def _place(self, put: _Put, write: Write) -> None:
        """The request that makes the object appear."""
        if not put.if_absent:
            await self._once(put, write)
            return
        async with self._claim(put.key):
            if self.conditional:
                await self._once(put, partial(write, IfNoneMatch="*"))
                return
            with suppress(ObjectMissing):
                await self._bucket.call("head_object", put.key)
                raise ObjectExists(put.key)
            await self._once(put, write)

    async def _once(self, put: _Put, write: Write) -> None:
        """A call that is refused because its own first try was done, and only the answer lost, is a success."""
        for last in (*[False] * (CONFLICTS - 1), True):
            try:
                await write()
            except (ObjectExists, UploadMissing):
                if not await self._own(put):
                    raise
            except Conflict:
                if last:
                    raise
                await asyncio.sleep(random.uniform(0, PAUSE))  # noqa: S311 - not a secret
            else:
                return
            return

    async def _own(self, put: _Put) -> bool:
        with suppress(ObjectMissing):
            found = await self._bucket.call("head_object", put.key)
            return bool(found.get("Metadata", {}).get(WRITER) == put.writer)
        return False

    async def _to_end(self, work: Coroutine[Any, Any, None]) -> None:
        """Done to its end, even if whoever waits is cancelled."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: whoever waited may be gone


class _Blocks:
    """The bytes of a put, gathered into blocks of one size."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._gathered = bytearray()

    async def fill(self) -> bool:
        """Gather a block and a little more; whether all that is left is the last block."""
        while len(self._gathered) <= PART:
            piece = await anext(self._pieces, None)
            if piece is None:
                return True
            self._gathered += piece
        return False

    def take(self) -> bytes:
        with memoryview(self._gathered) as view:
            block = bytes(view[:PART])
        del self._gathered[:PART]
        return block
