"""Files that definitions refer to: who may name them, and what they are when a job begins, for all its attempts."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from flaregate_wire.definitions import JobDefinition
from flaregate_wire.limits import REFERENCE_BYTES, REFERENCE_FILES
from flaregate_wire.problems import Fault
from flaregate_wire.references import Reference, RemoteFile, RemoteRead
from flaregate_wire.states import Reason, State
from gateway.jobs import moves
from gateway.jobs.decisions import UNREAD
from gateway.jobs.errors import InvalidDefinition
from gateway.jobs.records import JobRecord, Verdict
from gateway.jobs.repository import Change, SqlRepository
from gateway.stores.base import StoreError, StoreUnavailable
from gateway.stores.references import FindsFiles, TooMany

log = logging.getLogger(__name__)
AGAIN = timedelta(seconds=2)
"""Between looks, until the deadline of the launch."""
SECONDS = 60.0
"""For all references of a job."""
AT_ONCE = 8
"""Jobs of one tenant: slow servers of one keep nobody else waiting."""
EVERYONE = "*"


@dataclass(frozen=True, slots=True)
class Places:
    """Where files may be."""

    stores: Mapping[str, FindsFiles] = field(default_factory=dict)
    """By scheme: `s3`, `https`."""
    buckets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By tenant, `*` for all: addresses that begin with one of these `s3://…/` are read with the gateway's key."""


class Unreadable(Exception):
    """The files cannot be had, and looking again will not help."""


class References:
    """One gateway's looks at users' files. Each goes on beside everything else; none is held in a request."""

    def __init__(
        self,
        repository: SqlRepository,
        change: Callable[[str, Change], Coroutine[Any, Any, object]],
        stir: Callable[[str], None],
        clock: Callable[[], datetime],
    ) -> None:
        self.places = Places()
        """Set by whoever puts the gateway together."""
        self._repository = repository
        self._change = change
        self._stir = stir
        self._now = clock
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._not_before: dict[str, datetime] = {}
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))

    def check(self, tenant: str, definition: JobDefinition) -> None:
        """Raise InvalidDefinition for each reference that this tenant may not name. Nothing remote."""
        found = tuple(
            Fault(pointer=pointer, rule="reference", message=f"{given.reference!r}: {wrong}")
            for pointer, given in _references(definition)
            if (wrong := self._fault(tenant, given.reference)) is not None
        )
        if found:
            raise InvalidDefinition("; ".join(item.message for item in found), found)

    def _fault(self, tenant: str, address: str) -> str | None:
        scheme = address.partition("://")[0]
        store = self.places.stores.get(scheme)
        if scheme == "s3":
            allowed = (*self.places.buckets.get(tenant, ()), *self.places.buckets.get(EVERYONE, ()))
            if store is None or not any(address.startswith(place) for place in allowed):
                listed = ", ".join(allowed) if store is not None and allowed else "none yet"
                return f"the operator allows references to {listed}; ask for this one (setting FLAREGATE_REFERENCES)"
        if store is None:
            return f"this gateway reads no {scheme}:// addresses; load the data and give it"
        return store.fault(address)

    def begin(self, record: JobRecord) -> None:
        """Look at a job's files, unless that goes on or has just been tried; the job is stirred when it is known."""
        if record.id in self._looks or self._not_before.get(record.id, self._now()) > self._now():
            return
        task = asyncio.create_task(self._look(record))
        self._looks[record.id] = task
        task.add_done_callback(lambda _: self._looked(record.id))

    def _looked(self, job: str) -> None:
        del self._looks[job]
        self._stir(job)

    async def _look(self, record: JobRecord) -> None:
        self._not_before.pop(record.id, None)
        try:
            await self._settle(record)
        except Exception:  # the deadline ends the job, and the others go on
            log.exception("the references of %s could not be looked at", record.id)
            self._not_before[record.id] = self._now() + AGAIN

    async def _settle(self, record: JobRecord) -> None:
        try:
            async with self._turns[record.tenant]:
                found = await self._found(record)
        except Unreadable as error:
            verdict = Verdict(State.FAILED, self._now(), Reason.STAGE_IN_FAILED, str(error))
            await self._change(record.id, lambda job, _: moves.unreadable(job, verdict))
        except StoreUnavailable as error:
            message = str(error)
            self._not_before[record.id] = self._now() + AGAIN
            await self._change(record.id, lambda job, _: moves.condition(job, UNREAD, self._now(), message))
        else:
            await self._change(record.id, lambda job, _: moves.condition(job, UNREAD, self._now(), None))
            await self._change(record.id, lambda job, _: moves.resolved(job, found))

    async def _found(self, record: JobRecord) -> dict[str, tuple[RemoteFile, ...]]:
        """The files of each reference. Raises Unreadable or StoreUnavailable, naming input and address."""
        definition = JobDefinition.model_validate_json(await self._repository.definition(record.id))
        found: dict[str, tuple[RemoteFile, ...]] = {}
        for address in record.references:
            names = ", ".join(pointer for pointer, given in _references(definition) if given.reference == address)
            told = f"{names}: {address}"
            try:
                async with asyncio.timeout(SECONDS):
                    found[address] = await self._store(address).files(address, REFERENCE_FILES)
            except TimeoutError as error:
                raise StoreUnavailable(f"{told}: no answer in {SECONDS:g} seconds") from error
            except StoreUnavailable as error:
                raise StoreUnavailable(f"{told}: {error}") from error
            except TooMany as error:
                raise Unreadable(f"{told}: {_too_many()}") from error
            except StoreError as error:
                raise Unreadable(f"{told}: {error}") from error
            _check_amount(told, found)
        return found

    def _store(self, address: str) -> FindsFiles:
        scheme = address.partition("://")[0]
        if scheme not in self.places.stores:
            raise Unreadable(f"{address}: this gateway no longer reads {scheme}:// addresses")
        return self.places.stores[scheme]

    def reads(self, record: JobRecord) -> dict[str, tuple[RemoteRead, ...]]:
        """How a container reads the files of each reference, in their order."""
        return {
            address: tuple(self._store(address).read(file) for file in files or ())
            for address, files in record.references.items()
        }

    async def close(self) -> None:
        """End what goes on; whoever takes the jobs up looks again."""
        for task in tuple(self._looks.values()):
            task.cancel()
        await asyncio.gather(*self._looks.values(), return_exceptions=True)
        for store in self.places.stores.values():
            await store.close()


def unresolved(definition: JobDefinition) -> dict[str, tuple[RemoteFile, ...] | None]:
    """What a new record says of the files: each address once, nothing known of it."""
    return {given.reference: None for _, given in _references(definition)}


def _check_amount(told: str, found: Mapping[str, Sequence[RemoteFile]]) -> None:
    files = [file for each in found.values() for file in each]
    if len(files) > REFERENCE_FILES:
        raise Unreadable(f"{told}: {_too_many()}")
    size = sum(file.size or 0 for file in files)
    if size > REFERENCE_BYTES:
        raise Unreadable(
            f"{told}: with it the references are {size} bytes; the limit reference_bytes is {REFERENCE_BYTES} for a job"
        )


def _too_many() -> str:
    return (
        f"these are more files than the limit reference_files, which is {REFERENCE_FILES} for a job; "
        "write fewer and larger ones, or name a folder further down"
    )


def _references(definition: JobDefinition) -> Iterator[tuple[str, Reference]]:
    """Every reference, with its JSON Pointer."""
    places: dict[str, object] = {f"/inputs/{name}": given for name, given in definition.inputs.items()}
    for number, one in enumerate(definition.objects):
        places |= {f"/objects/{number}/X": one.X, f"/objects/{number}/y": one.y}
    for pointer, given in places.items():
        if isinstance(given, Reference):
            yield pointer, given
