"""What is kept, and for how long: jobs whose time is over go, and what nothing refers to. The one sweep of the store.

Rows go before objects: what is cut short at any point leaves objects that no row names, and the next search of the
store finds them. What a row names is there. Two gateways may sweep at once: each row is taken out by one of them, and
to remove an object that is gone is a success.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol

from flaregate_wire.jobs import Garbage, GarbageReport
from gateway.jobs.cache import Cache
from gateway.jobs.policy import Policy
from gateway.jobs.repository import SqlRepository
from gateway.jobs.staging import Staging
from gateway.stores.base import ObjectInfo, Store, StoreError

log = logging.getLogger(__name__)
Kind = Literal["uploads", "blobs", "jobs", "cache", "objects", "packages"]
KINDS: tuple[Kind, ...] = ("uploads", "blobs", "jobs", "cache", "objects", "packages")
EXAMPLES = 5
AT_ONCE = 500
"""Rows that are looked at together, and objects: some milliseconds of the database."""
PATIENCE = 40.0
"""Seconds after which a sweep ends, and says that there is more."""
PAUSE = 5.0
"""Seconds at least between two sweeps, and from the start to the first search of the store."""
BREATH = 0.05
"""Seconds between two pages of a search in the background."""
RETRY = 300.0
"""Seconds after a sweep that failed."""


@dataclass(slots=True)
class _Tally:
    """What a sweep finds."""

    tenant: str | None
    dry_run: bool
    end: float = float("inf")
    found: dict[Kind, Garbage] = field(default_factory=dict)
    whole: bool = True

    def add(self, kind: Kind, name: str, size: int) -> None:
        """One more thing."""
        had = self.found.get(kind) or Garbage(kind=kind)
        examples = (*had.examples, name)[:EXAMPLES]
        self.found[kind] = Garbage(kind=kind, count=had.count + 1, size=had.size + size, examples=examples)

    @property
    def over(self) -> bool:
        """Whether its time is over, with more to do."""
        if time.monotonic() > self.end:
            self.whole = False
        return not self.whole

    def keys(self, found: Collection[tuple[str, int]]) -> list[tuple[str, int]]:
        """Those of the keys, each with a size, that are the tenant's."""
        start = "tenants/" if self.tenant is None else f"tenants/{self.tenant}/"
        return [item for item in found if item[0].startswith(start)]

    def report(self) -> GarbageReport:
        """What was found, by kind."""
        found = tuple(self.found.get(kind) or Garbage(kind=kind) for kind in KINDS)
        return GarbageReport(dry_run=self.dry_run, found=found, whole=self.whole)


class Sweeps(Protocol):
    """What lies outside the store, and goes when nobody has used it for a while."""

    async def sweep(self, before: datetime, *, dry_run: bool) -> Sequence[tuple[str, int]]:
        """Remove what was not used since, or only say what that is; gives names and bytes."""


class Retention:
    """One gateway's sweep."""

    def __init__(
        self,
        repository: SqlRepository,
        store: Store,
        staging: Staging,
        cache: Cache,
        policy: Policy,
        clock: Callable[[], datetime],
    ) -> None:
        self._index = repository.garbage
        self._staged = repository.staged
        self._store = store
        self._staging = staging
        self._cache = cache
        self._policy = policy
        self._now = clock
        self.packages: Sweeps | None = None
        """What jobs have brought to this machine; set by who knows where it is. It belongs to no tenant."""
        self._ended = asyncio.Event()
        self._moved = True
        self._search_at = 0.0
        repository.listen(lambda written: self._told(ended=written.job.state.terminal))

    def _told(self, *, ended: bool) -> None:
        self._moved = True  # a job that moves may leave objects behind
        if ended:
            self._ended.set()

    async def remove(self, tenant: str, job: str) -> int | None:
        """Remove a job that has ended and all that it left; gives how many bytes, None where there is none.

        What other jobs refer to stays, and goes with the last of them.
        """
        kept = await self._index.forget(job)
        if kept is None:
            return None
        size = 0
        async for page in self._pages(f"tenants/{tenant}/jobs/{job}/"):
            size += sum(item.size for item in await self._delete(page))
        await self._delete_keys(kept)
        return size

    async def sweep(
        self, tenant: str | None = None, *, dry_run: bool = False, patience: float = PATIENCE
    ) -> GarbageReport:
        """Remove what is not needed any more, of one tenant or of all; with `dry_run` only say what that is."""
        tally = _Tally(tenant, dry_run, time.monotonic() + patience)
        await self._sweep(tally)
        await self._search(tally)
        return tally.report()

    async def run(self, pause: float = PAUSE) -> None:
        """Sweep at the start and when the time of something is over, until cancelled.

        The store is searched from time to time while jobs move. Where nothing happens, nothing is asked of it.
        """
        self._search_at = time.monotonic() + pause
        while True:
            self._ended.clear()
            try:
                wait = await self._round()
            except Exception:  # the next one may succeed; nothing but room depends on it
                log.exception("what is not needed any more could not be removed")
                wait = RETRY
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, wait - pause)):
                    await self._ended.wait()
            await asyncio.sleep(pause)

    async def _round(self) -> float:
        """Gives the seconds until there may be more to do, if nothing ends meanwhile."""
        tally = _Tally(None, dry_run=False, end=time.monotonic() + PATIENCE)
        await self._sweep(tally)
        if self._moved and time.monotonic() >= self._search_at:
            self._moved = False
            self._search_at = time.monotonic() + self._policy.interval
            await self._search(_Tally(None, dry_run=False, found=tally.found), BREATH)
        gone = ", ".join(f"{item.count} {kind} ({item.size} bytes)" for kind, item in tally.found.items())
        if gone:
            log.info("not needed any more and removed: %s", gone)
        if not tally.whole:
            return 0
        due = await self._index.due(self._policy)
        waits = [self._policy.interval]
        if due is not None:
            waits.append((due - self._now()).total_seconds())
        if self._moved:
            waits.append(self._search_at - time.monotonic())
        return min(waits)

    async def _sweep(self, tally: _Tally) -> None:
        """What there are rows of."""
        before = self._now() - timedelta(seconds=self._policy.idle)
        await self._sweep_uploads(tally, before)
        await self._sweep_blobs(tally, before)
        await self._sweep_jobs(tally)
        for key, size in tally.keys(await self._cache.trim(dry_run=tally.dry_run)):
            tally.add("cache", key, size)
        if self.packages is not None:
            for name, size in await self.packages.sweep(before, dry_run=tally.dry_run):
                tally.add("packages", name, size)

    async def _sweep_uploads(self, tally: _Tally, before: datetime) -> None:
        blobs, uploads = await self._staged.idle(before)
        found = [*((blob.key, blob.size) for blob in blobs), *((upload.key, 0) for upload in uploads)]
        for key, size in tally.keys(found):
            tally.add("uploads", key, size)
        if found and not tally.dry_run:
            await self._staging.sweep(before)

    async def _sweep_blobs(self, tally: _Tally, before: datetime) -> None:
        found = AT_ONCE
        while found == AT_ONCE and not tally.over:
            take = self._index.unused if tally.dry_run else self._index.drop
            blobs = await take(before, tally.tenant, AT_ONCE)
            found = len(blobs)
            for blob in blobs:
                tally.add("blobs", blob.sha256, blob.size if blob.complete else 0)
            if tally.dry_run:
                tally.whole = found < AT_ONCE
                return
            await self._delete_keys([blob.key for blob in blobs])

    async def _sweep_jobs(self, tally: _Tally) -> None:
        while not tally.over and (jobs := await self._index.expired(self._now(), tally.tenant, AT_ONCE)):
            for job in jobs:
                size = await (self._size if tally.dry_run else self.remove)(job.tenant, job.id)
                if size is not None:
                    tally.add("jobs", job.id, size)
                if tally.over:
                    return
            if tally.dry_run:
                tally.whole = len(jobs) < AT_ONCE
                return

    async def _size(self, tenant: str, job: str) -> int:
        """What would go with a job."""
        size = 0
        async for page in self._pages(f"tenants/{tenant}/jobs/{job}/"):
            gone = await self._index.leaves(job, [item.key for item in page])
            size += sum(item.size for item in page if item.key in gone)
        return size

    async def _search(self, tally: _Tally, pause: float = 0) -> None:
        """Objects that no row names; young ones may be somebody's who is about to name them."""
        before = self._now() - timedelta(seconds=self._policy.idle)
        prefix = "tenants/" if tally.tenant is None else f"tenants/{tally.tenant}/"
        async for page in self._pages(prefix, before):
            if tally.over:
                return
            for item in await self._delete(page, dry_run=tally.dry_run):
                tally.add("objects", item.key, item.size)
            await asyncio.sleep(pause)
        try:
            begun = [item async for item in self._store.uploads(prefix) if item.since < before]
        except StoreError as error:  # not every service tells, nor every key may ask
            log.info("uploads in parts that nobody knows of could not be looked for: %s", error)
            return
        for lost in await self._index.lost(begun):
            tally.add("uploads", lost.key, 0)
            if not tally.dry_run:
                await self._store.abandon(lost.key, lost.upload)

    async def _pages(self, prefix: str, before: datetime | None = None) -> AsyncIterator[list[ObjectInfo]]:
        """Objects below a prefix, some at a time; only those that were written before."""
        page: list[ObjectInfo] = []
        async for item in self._store.list(prefix):
            if before is None or item.modified < before:
                page.append(item)
            if len(page) == AT_ONCE:
                yield page
                page = []
        if page:
            yield page

    async def _delete(self, page: list[ObjectInfo], *, dry_run: bool = False) -> list[ObjectInfo]:
        """Remove those of the objects that no row names; gives them."""
        gone = await self._index.strangers([item.key for item in page])
        if gone and not dry_run:
            await self._store.delete_all(sorted(gone))
        return [item for item in page if item.key in gone]

    async def _delete_keys(self, keys: Collection[str]) -> None:
        gone = await self._index.strangers(keys) if keys else ()
        if gone:
            await self._store.delete_all(sorted(gone))
