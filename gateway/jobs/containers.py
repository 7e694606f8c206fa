"""What the containers of an attempt ask for: their order, the head's address, events, places for objects, the end."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from flaregate_wire.attempts import (
    BatchAnswer,
    EventBatch,
    HeadAddress,
    Manifest,
    ObjectsAnswer,
    ObjectsRequest,
    Order,
    Rendezvous,
    TrustScope,
)
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.jobs import Cluster
from flaregate_wire.references import RemoteRead
from flaregate_wire.states import Reason
from gateway.jobs import intake, moves
from gateway.jobs.errors import AttemptOver, BootConflict, InvalidRequest, SequenceGap
from gateway.jobs.feed import Feed
from gateway.jobs.keys import Container, Keys
from gateway.jobs.moves import Move
from gateway.jobs.placing import unmap
from gateway.jobs.records import AttemptRecord, JobRecord
from gateway.jobs.repository import SqlRepository, Written
from gateway.jobs.spilled import Spilled, check_artifact, check_written
from gateway.stores.base import Expected, Store


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that the service grants."""

    lease: float
    join: float
    url_age: float


class Containers:
    """The containers' side of one gateway's jobs. Every method takes the container that asks."""

    def __init__(
        self,
        repository: SqlRepository,
        store: Store,
        keys: Keys,
        times: Times,
        feed: Feed,
        stir: Callable[[str], None],
        clock: Callable[[], datetime],
        spilled: Spilled,
    ) -> None:
        self._repository = repository
        self._store = store
        self._keys = keys
        self._times = times
        self._feed = feed
        self._spilled = spilled
        self._stir = stir
        self._now = clock
        self.reads: Callable[[JobRecord], dict[str, tuple[RemoteRead, ...]]] = lambda _: {}
        """How the files of a job's references are read; set by the service."""
        self.node_tls = False
        """Whether the nodes of a cluster speak TLS with each other; set by who knows their network."""
        self.larger: Callable[[Cluster], str] = lambda _: ""
        """What a container that ran out of memory could have; set by who knows the platform's sizes."""

    async def order(self, attempt: str, index: int, boot: str) -> Order:
        """The order of a container; its first boot has it and may ask again."""
        job = _job_of(attempt)

        def how(record: JobRecord, last: AttemptRecord | None) -> Move | None:
            own = _own(last, attempt)
            if index >= record.cluster.instances and not (own and index in own.replacements):
                raise InvalidRequest(f"there is no container {index}; the cluster has {record.cluster.instances}")
            return moves.boot(record, own, index, boot, self._now())

        await self._repository.change(job, how)
        current = await self._repository.current(job)
        if current is None:
            raise AttemptOver
        record, last = current
        self._stir(job)
        own = _own(last, attempt)
        if own is not None and own.boots.get(index, boot) != boot:
            raise BootConflict  # of a head: the attempt is lost with its first boot
        live = moves.live(record, own)
        return await self._order(record, live, index, boot)

    async def _order(self, record: JobRecord, attempt: AttemptRecord, index: int, boot: str) -> Order:
        definition = JobDefinition.model_validate_json(await self._repository.definition(record.id))
        needed = definition.blobs() if index == 0 else definition.own_blobs()
        staged = await self._repository.blobs(record.tenant, tuple(needed))
        return Order(
            job=record.id,
            attempt=attempt.id,
            number=attempt.number,
            index=index,
            role="head" if index == 0 else "worker",
            token=self._keys.token(Container(attempt.id, index, boot)),
            lease=self._times.lease,
            deadline=(record.started or record.created) + timedelta(seconds=record.timeout),
            join_deadline=self._times.join,
            cluster=record.cluster,
            ray_token=self._keys.ray(attempt.id),
            node_secret=self._keys.nodes(attempt.id) if self.node_tls and record.cluster.workers else None,
            trust_scope=TrustScope(tenant=record.tenant, project=record.project),
            definition=definition if index == 0 else None,
            spill=self._spilled.slots(record, attempt, index),
            blobs={name: self._store.presign("GET", blob.key) for name, blob in staged.items()},
            references=self.reads(record) if index == 0 else {},
            sizes={name: blob.size for name, blob in staged.items()},
            code=None if definition.code is None else definition.code.blob,
            requirements=None if definition.requirements is None else definition.requirements.blob,
        )

    async def register(self, who: Container, head: HeadAddress) -> None:
        """The head says where it listens."""
        await self._repository.change(
            _job_of(who.attempt), lambda record, last: moves.register(record, _boot(last, who), head)
        )

    async def rendezvous(self, who: Container, seconds: float, until: Literal["head", "done"]) -> Rendezvous:
        """Where the head is, or word that the attempt is over; at the latest after `seconds`."""
        job = _job_of(who.attempt)
        channel = self._feed.join(job)
        answer = Rendezvous()
        try:
            async with asyncio.timeout(seconds):
                while True:
                    woken = channel.woken
                    current = await self._repository.current(job)
                    try:
                        live = moves.live(current[0], _boot(current[1], who)) if current else None
                    except AttemptOver:
                        live = None
                    if live is None or live.verdict is not None or who.index in live.released:
                        return Rendezvous(done=True)
                    answer = Rendezvous(head=live.head)
                    if (until == "head" and live.head is not None) or not seconds or self._feed.closing:
                        return answer
                    await woken.wait()
        except TimeoutError:
            return answer
        finally:
            self._feed.leave(job)

    async def take(self, who: Container, batch: EventBatch) -> BatchAnswer:
        """Take events in, renew the lease, pass wishes on."""
        await check_written(self._store, batch)
        try:
            written = await self._take(who, batch)
        except SequenceGap:  # it may hold no longer what it has written to the store
            await self._spilled.recover(*await self.live(who))
            written = await self._take(who, batch)
        if written is None or written.attempt is None:
            raise AttemptOver
        verdict = written.attempt.verdict
        unwanted = written.job.wish is not None or (verdict is not None and not verdict.committed)
        return BatchAnswer(
            acknowledged=written.attempt.expected.get(who.index, 0),
            lease=self._times.lease,
            cancel=unwanted,
            spill=self._spilled.slots(written.job, written.attempt, who.index) if batch.renew else None,
        )

    async def _take(self, who: Container, batch: EventBatch) -> Written | None:
        return await self._repository.change(
            _job_of(who.attempt),
            lambda record, last: intake.take_in(record, _boot(last, who), who.index, batch, self._now()),
        )

    async def objects(self, who: Container, asked: ObjectsRequest) -> ObjectsAnswer:
        """Presigned requests under the attempt's own prefixes; those of the cache take the bytes they name alone."""
        record, attempt = await self.live(who)
        places = (intake.place(record, attempt, name) for name in asked.put)
        return ObjectsAnswer(
            put=tuple((key, self._store.presign("PUT", key, Expected(sha256=sha256))) for key, sha256 in places)
        )

    async def commit(self, who: Container, manifest: Manifest) -> None:
        """Take the manifest, if what it names is there and under the attempt's own prefix."""
        record, attempt = await self.live(who)
        if manifest.damaged:
            await unmap(self._repository, self._store, record, manifest.damaged)
        start = intake.prefix(record, attempt)
        for item in manifest.artifacts:
            intake.check_own(item, start)
            await check_artifact(self._store, item)
        if manifest.reason is Reason.OOM_KILLED:
            told = f"{manifest.message or 'it ran out of memory'}{self.larger(record.cluster)}"
            manifest = manifest.model_copy(update={"message": told})
        await self._repository.change(
            record.id, lambda job, last: moves.commit(job, _boot(last, who), manifest, self._now())
        )
        self._stir(record.id)

    async def live(self, who: Container) -> tuple[JobRecord, AttemptRecord]:
        """The job and attempt of a container that may still write. Raises AttemptOver or BootConflict."""
        current = await self._repository.current(_job_of(who.attempt))
        if current is None:
            raise AttemptOver
        return current[0], moves.live(current[0], _boot(current[1], who))


def _job_of(attempt: str) -> str:
    return attempt.rpartition("-")[0]


def _own(last: AttemptRecord | None, attempt: str) -> AttemptRecord | None:
    """The last attempt if it is the one that asks; an older one is over."""
    return last if last is not None and last.id == attempt else None


def _boot(last: AttemptRecord | None, who: Container) -> AttemptRecord | None:
    own = _own(last, who.attempt)
    if own is not None and own.boots.get(who.index) != who.boot:
        raise BootConflict
    return own
