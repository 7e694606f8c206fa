"""What containers wrote to the store while no gateway answered: taken in as if it had been sent."""

import asyncio
import logging
import re
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from pydantic import ValidationError

from flaregate_wire.attempts import CommittedArtifact, EventBatch, Slots
from flaregate_wire.events import ArtifactEvent
from flaregate_wire.limits import SPILL_BYTES
from gateway.jobs import intake
from gateway.jobs.errors import BlobMismatch, BootConflict, Refusal
from gateway.jobs.moves import Move
from gateway.jobs.records import AttemptRecord, JobRecord
from gateway.jobs.repository import SqlRepository
from gateway.stores.base import ObjectInfo, ObjectMissing, Store, StoreDenied, StoreError

log = logging.getLogger(__name__)
SLOTS = 16
"""For the events of a head: 64 MiB, some hundred thousand outcomes."""
WORKER_SLOTS = 2
LOG_SLOTS = 16
"""Segments of a container's log until it is given further requests."""
_NAME = re.compile(r"(\d{1,6})/(\d{2})")
_AGAIN = timedelta(seconds=2)
"""Between two tries while the store does not answer."""


class Spilled:
    """The slots of containers, and what is found in them. Not `active`: the store is away with the gateway."""

    def __init__(
        self,
        repository: SqlRepository,
        store: Store,
        times: tuple[float, float],
        clock: Callable[[], datetime],
        *,
        active: bool,
    ) -> None:
        """`times`: how long a presigned request is good for, and a lease, which is how long the store is waited for."""
        self._repository = repository
        self._store = store
        self._url_age, self._lease = times
        self._now = clock
        self._active = active
        self._tries: dict[str, tuple[datetime, datetime]] = {}
        """When an attempt's objects were first looked for in vain, and when they are to be looked for again."""

    def slots(self, record: JobRecord, attempt: AttemptRecord, index: int) -> Slots | None:
        """Where a container writes its events while the gateway is away, and its log: new objects at each call."""
        if not self._active:
            return None
        start = _prefix(record, attempt)
        keys = (f"{start}{index}/{number:02d}" for number in range(WORKER_SLOTS if index else SLOTS))
        fresh = f"{intake.prefix(record, attempt)}logs/{index}/{secrets.token_hex(8)}-"
        logs = (f"{fresh}{number:02d}" for number in range(LOG_SLOTS))
        return Slots(
            put=tuple(self._store.presign("PUT", key) for key in keys),
            logs=tuple((key, self._store.presign("PUT", key)) for key in logs),
            seconds=self._url_age,
        )

    async def rescue(self, record: JobRecord, attempt: AttemptRecord) -> bool:
        """Take in what an attempt that is lost or leaves has written; False: not possible yet, try again later.

        A store that refuses, or does not answer for one lease, is waited for no longer: the job must have an end.
        """
        now = self._now()
        first, again = self._tries.get(attempt.id, (now, now))
        if not self._active or now < again:
            return not self._active
        try:
            await self.recover(record, attempt)
        except StoreError as error:
            if not isinstance(error, StoreDenied) and now < first + timedelta(seconds=self._lease):
                self._tries[attempt.id] = first, now + _AGAIN
                return False
            log.error("%s: what its containers may have left in the store is not taken in: %s", attempt.id, error)  # noqa: TRY400 - it is expected
        self._tries.pop(attempt.id, None)
        return True

    async def recover(self, record: JobRecord, attempt: AttemptRecord) -> None:
        """Take in what is there, each event once, in order. What is not as it should be is logged and left out."""
        if not self._active:
            return
        for index, item in await self._found(record, attempt):
            try:
                await self._take(record.id, attempt, index, item)
            except (ValidationError, Refusal, ObjectMissing) as error:
                log.warning("%s is left out: %s", item.key, error)
            if attempt.verdict is not None:
                await self._store.delete(item.key)  # nobody writes there any more

    async def _found(self, record: JobRecord, attempt: AttemptRecord) -> list[tuple[int, ObjectInfo]]:
        """By container and slot, which is the order in which they were written."""
        start = _prefix(record, attempt)
        found: list[tuple[int, int, ObjectInfo]] = []
        async for item in self._store.list(start):
            named = _NAME.fullmatch(item.key.removeprefix(start))
            if named is None or item.size > SPILL_BYTES:
                log.warning("%s, %d bytes, is not what a container may leave there", item.key, item.size)
            else:
                found.append((int(named[1]), int(named[2]), item))
        return [(index, item) for index, _, item in sorted(found, key=lambda one: one[:2])]

    async def _take(self, job: str, attempt: AttemptRecord, index: int, item: ObjectInfo) -> None:
        data = b"".join([piece async for piece in self._store.get(item.key, stop=item.size)])
        for line in data.split(b"\n"):
            batch = await asyncio.to_thread(EventBatch.model_validate_json, line)
            if attempt.boots.get(index) != batch.boot:
                raise BootConflict
            await check_written(self._store, batch)

            def how(record: JobRecord, last: AttemptRecord | None, batch: EventBatch = batch) -> Move | None:
                own = last if last is not None and last.id == attempt.id else None
                return intake.take_in(record, own, index, batch, None)

            await self._repository.change(job, how)


def _prefix(record: JobRecord, attempt: AttemptRecord) -> str:
    return f"{intake.prefix(record, attempt)}spill/"


async def check_written(store: Store, batch: EventBatch) -> None:
    """Raise ObjectMissing or BlobMismatch unless the artifacts that are told of are there."""
    for event in batch.events:
        if isinstance(event, ArtifactEvent):
            await check_artifact(store, event)


async def check_artifact(store: Store, item: ArtifactEvent | CommittedArtifact) -> None:
    """Raise ObjectMissing or BlobMismatch unless it is there."""
    if (await store.head(item.key)).size != item.size:
        raise BlobMismatch(f"the artifact {item.name!r} is not {item.size} bytes long")
