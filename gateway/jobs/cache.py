"""The cache: results that outlive their jobs, read within one trust scope, bounded in size."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from flaregate_wire.attempts import (
    CacheFetch,
    CacheFetched,
    CacheFound,
    CacheKeep,
    CacheLookup,
    CacheObject,
    CacheSegment,
)
from flaregate_wire.jobs import CacheRemoved
from gateway.jobs import intake
from gateway.jobs.cache_index import CacheIndex, Scope
from gateway.jobs.containers import Containers
from gateway.jobs.errors import BlobMismatch, InvalidRequest
from gateway.jobs.keys import Container
from gateway.jobs.policy import Policy
from gateway.jobs.records import AttemptRecord, JobRecord
from gateway.stores.base import DELETED_AT_ONCE, Store

log = logging.getLogger(__name__)
PAUSE = 5.0
"""Seconds at least between two looks at the size."""


class Cache:
    """One gateway's cache. Rows go before objects: what the index names is in the store, unless it has just gone."""

    def __init__(
        self,
        containers: Containers,
        index: CacheIndex,
        store: Store,
        policy: Policy,
        clock: Callable[[], datetime],
    ) -> None:
        self._containers = containers
        self._index = index
        self._store = store
        self._limit = policy.cache_bytes
        self._age = policy.cache_age
        self._now = clock
        self._grown = asyncio.Event()

    async def lookup(self, who: Container, asked: CacheLookup) -> CacheFound:
        """Every segment of these shelves, oldest first."""
        record, _ = await self._containers.live(who)
        found = await self._index.segments(_scope(record), asked.shelves, self._now())
        gets = {item.object.key: self._store.presign("GET", item.object.key) for item in found}
        return CacheFound(
            segments=tuple(
                CacheSegment(shelf=item.shelf, object=item.object, get=gets[item.object.key], job=item.job)
                for item in found
            )
        )

    async def fetch(self, who: Container, asked: CacheFetch) -> CacheFetched:
        """Where to read large results; those that are not in this trust scope's cache are left out."""
        record, _ = await self._containers.live(who)
        known = await self._index.known(_scope(record), asked.keys, self._now())
        return CacheFetched(get={key: self._store.presign("GET", key) for key in known})

    async def keep(self, who: Container, kept: CacheKeep) -> None:
        """Register what the attempt has written: under its own prefix, under its own sum, and all there."""
        record, attempt = await self._containers.live(who)
        intake.check_keeps(record)
        objects = {item.key: item for item in (*kept.objects, *(segment for _, segment in kept.segments))}
        await asyncio.gather(*(self._check(record, attempt, item) for item in objects.values()))
        shelves = [(shelf, segment.key) for shelf, segment in kept.segments]
        made = (record.id, attempt.id)
        await self._index.keep(_scope(record), made, tuple(objects.values()), shelves, self._now())
        self._grown.set()

    async def _check(self, record: JobRecord, attempt: AttemptRecord, item: CacheObject) -> None:
        own = intake.cache_prefix(record, attempt) + item.sha256.removeprefix("sha256:")
        if item.key != own:
            raise InvalidRequest(f"{item.key!r} is not the key that this attempt has for {item.sha256}")
        if (await self._store.head(item.key)).size != item.size:
            raise BlobMismatch(f"{item.key!r} is not {item.size} bytes long")

    async def forget(self, tenant: str, job: str) -> CacheRemoved:
        """Remove all that the attempts of a job have kept; it may be recomputed, never found wrong again."""
        gone = await self._index.forget(tenant, job)
        await self._delete([item.key for item in gone])
        return CacheRemoved(objects=len(gone), size=sum(item.size for item in gone))

    async def run(self) -> None:
        """Hold the limit until cancelled: looks at the size at the start, and soon after it has grown."""
        while True:
            self._grown.clear()
            try:
                await self.trim()
            except Exception:  # the next look may succeed; jobs go on without it
                log.exception("the cache could not be trimmed")
            await self._grown.wait()
            await asyncio.sleep(PAUSE)

    async def trim(self, *, dry_run: bool = False) -> list[tuple[str, int]]:
        """Remove what is too old, and what was not used for longest until the limit holds; gives keys and sizes."""
        before = None if self._age is None else self._now() - timedelta(seconds=self._age)
        gone = await self._index.overflow(self._limit, before, dry_run=dry_run)
        if gone and not dry_run:
            await self._delete([item.key for item in gone])
            log.info("%d objects were removed from the cache: its limit is %d bytes", len(gone), self._limit)
        return [(item.key, item.size) for item in gone]

    async def _delete(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), DELETED_AT_ONCE):
            await self._store.delete_all(keys[start : start + DELETED_AT_ONCE])


def _scope(record: JobRecord) -> Scope:
    return Scope(record.tenant, record.project)
