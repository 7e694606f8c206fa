"""Large objects of attempts, artifacts and results of the cache alike: sent in parts by presigned requests."""

from collections.abc import Callable
from datetime import datetime

from flaregate_wire.attempts import LargeObject, LargePlace
from flaregate_wire.limits import BLOB_BYTES
from gateway.jobs import intake
from gateway.jobs.blob_index import BlobIndex
from gateway.jobs.containers import Containers
from gateway.jobs.errors import BlobMismatch, InvalidRequest, JobMissing, TooLarge
from gateway.jobs.keys import Container
from gateway.jobs.records import Upload
from gateway.jobs.sending import in_parts
from gateway.stores.base import ObjectMismatch, Store, UploadMissing


class LargeObjects:
    """Every method takes the container that asks; it writes under its attempt's own prefixes alone."""

    def __init__(self, containers: Containers, index: BlobIndex, store: Store, clock: Callable[[], datetime]) -> None:
        self._containers = containers
        self._index = index
        self._store = store
        self._now = clock

    async def place(self, who: Container, asked: LargeObject) -> LargePlace:
        """Begin an upload, or go on with one: requests for parts that are missing. Raises JobMissing for a lost one."""
        if asked.size > BLOB_BYTES:
            raise TooLarge(f"{asked.size} bytes; the limit blob_bytes is {BLOB_BYTES} bytes")
        tenant, key = await self._key(who, asked)
        there: frozenset[int] = frozenset()
        if asked.upload is None:
            upload = await self._store.begin(key, asked.parts)
            await self._index.begun(tenant, Upload(key, upload), self._now())
        else:
            upload = asked.upload
            there = await self._arrived(key, asked)
        send, missing = in_parts(self._store, key, upload, asked.parts, there)
        return LargePlace(key=key, upload=upload, send=send, missing=missing)

    async def finish(self, who: Container, asked: LargeObject) -> None:
        """Make the object of its parts; doing it again is a success. Raises BlobMismatch."""
        if asked.upload is None:
            raise InvalidRequest("upload: say which one is finished, as the answer to /parts named it")
        _, key = await self._key(who, asked)
        try:
            await self._store.finish(key, asked.upload, asked.parts)
        except UploadMissing as error:
            raise JobMissing("the store does not know this upload") from error
        except ObjectMismatch as error:
            raise BlobMismatch(str(error)) from error
        await self._index.over(Upload(key, asked.upload))

    async def _key(self, who: Container, asked: LargeObject) -> tuple[str, str]:
        record, attempt = await self._containers.live(who)
        return record.tenant, intake.place(record, attempt, asked.name)[0]

    async def _arrived(self, key: str, asked: LargeObject) -> frozenset[int]:
        try:
            return await self._store.arrived(key, asked.upload or "", asked.parts)
        except UploadMissing as error:
            raise JobMissing("the store does not know this upload") from error
