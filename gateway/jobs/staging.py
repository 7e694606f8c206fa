"""What is in the store before a job begins: blobs that users send, and earlier jobs' artifacts that serve as blobs."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from flaregate_wire.blobs import BlobAnswer, BlobOffer
from flaregate_wire.definitions import Artifact, JobDefinition, ModelNode
from flaregate_wire.definitions import Blob as Staged
from flaregate_wire.limits import BLOB_BYTES
from flaregate_wire.problems import Fault
from gateway.jobs.errors import BlobMismatch, BlobMissing, InvalidDefinition, JobMissing, TooLarge
from gateway.jobs.records import Blob
from gateway.jobs.repository import SqlRepository
from gateway.stores.base import Expected, ObjectMissing, Store

T = TypeVar("T")


class Staging:
    """One gateway's staged blobs. Every method takes the tenant that asks."""

    def __init__(self, repository: SqlRepository, store: Store, url_age: float, clock: Callable[[], datetime]) -> None:
        self._repository = repository
        self._store = store
        self._url_age = url_age
        self._now = clock

    async def offer(self, tenant: str, offer: BlobOffer) -> BlobAnswer:
        """Whether it is staged, or where to send it: a random key, bound to size and sum."""
        if offer.size > BLOB_BYTES:
            raise TooLarge(f"{offer.size} bytes; the limit blob_bytes is {BLOB_BYTES} bytes")
        key = f"tenants/{tenant}/blobs/{secrets.token_hex(16)}"
        blob = Blob(tenant, offer.sha256, offer.size, offer.media_type, key, complete=False)
        kept = await self._repository.keep_blob(blob)  # an earlier offer of the same bytes keeps its place
        if kept.complete:
            return BlobAnswer(exists=True)
        if kept.size != offer.size:
            raise BlobMismatch(f"{offer.sha256} was announced with {kept.size} bytes before, now with {offer.size}")
        upload = self._store.presign("PUT", kept.key, Expected(kept.size, kept.sha256))
        return BlobAnswer(exists=False, upload=(upload,), expires=self._now() + timedelta(seconds=self._url_age))

    async def complete(self, tenant: str, sha256: str) -> None:
        """The bytes were sent: check that they are there, and make them known."""
        blob = (await self._repository.blobs(tenant, (sha256,))).get(sha256)
        if blob is None:
            raise JobMissing(f"nothing was announced as {sha256}")
        try:
            info = await self._store.head(blob.key)
        except ObjectMissing as error:
            raise BlobMismatch("nothing has been sent yet") from error
        if info.size != blob.size:
            raise BlobMismatch(f"{info.size} bytes came, {blob.size} were announced")
        await self._repository.keep_blob(replace(blob, complete=True))

    async def check(self, tenant: str, definition: JobDefinition) -> None:
        """Raise BlobMissing with every blob that the definition refers to and that is not staged."""
        needed = definition.blobs()
        known = await self._repository.blobs(tenant, tuple(needed))
        missing = sorted(name for name in needed if name not in known or not known[name].complete)
        if missing:
            listed = tuple(Fault(pointer="", rule="blob", message=f"{name} is not staged") for name in missing)
            raise BlobMissing(f"{', '.join(missing)}: stage them with POST /v1/blobs first", listed)

    async def resolve(self, tenant: str, definition: JobDefinition) -> tuple[JobDefinition, tuple[Blob, ...]]:
        """The definition with blobs in place of artifacts, and these blobs. Raises InvalidDefinition."""
        found: dict[str, Blob] = {}
        wrong: list[Fault] = []
        for pointer, given in _artifacts(definition):
            blob = await self._artifact(tenant, given)
            if isinstance(blob, Blob):
                found[given.artifact] = blob
            else:
                wrong.append(Fault(pointer=pointer, rule="artifact", message=blob))
        if wrong:
            raise InvalidDefinition("; ".join(item.message for item in wrong), tuple(wrong))
        return (_staged(definition, found) if found else definition), tuple(found.values())

    async def _artifact(self, tenant: str, given: Artifact) -> Blob | str:
        """An artifact as a blob of its owner, or what is wrong with the reference."""
        job, _, name = given.artifact.removeprefix("job:").partition("/")
        current = await self._repository.current(job)
        if current is None or current[0].tenant != tenant:
            return f"there is no job {job!r}"
        left = await self._repository.artifacts(job)
        for item in left:
            if item.name == name:
                return Blob(tenant, item.sha256, item.size, item.media_type, item.key, complete=True)
        return f"job {job!r} left no artifact {name!r}; it left {', '.join(item.name for item in left) or 'none'}"

    async def keep(self, blobs: tuple[Blob, ...]) -> None:
        """Make artifacts known by their sums, as if they had been sent."""
        for blob in blobs:
            await self._repository.keep_blob(blob)


def _artifacts(definition: JobDefinition) -> Iterator[tuple[str, Artifact]]:
    """Every artifact that the definition refers to, with its JSON Pointer."""
    places: dict[str, object] = {f"/inputs/{name}": given for name, given in definition.inputs.items()}
    for place, one in enumerate(definition.objects):
        places |= {f"/objects/{place}/X": one.X, f"/objects/{place}/y": one.y}
    for place, node in enumerate(definition.pipeline.nodes):
        if isinstance(node, ModelNode):
            places[f"/pipeline/nodes/{place}/source"] = node.source
    for pointer, given in places.items():
        if isinstance(given, Artifact):
            yield pointer, given


def _staged(definition: JobDefinition, found: Mapping[str, Blob]) -> JobDefinition:
    """The definition with each artifact's blob in its place."""

    def swap(given: T) -> T | Staged:
        if not isinstance(given, Artifact):
            return given
        blob = found[given.artifact]
        return Staged(blob=blob.sha256, media_type=blob.media_type, size=blob.size)

    nodes = tuple(
        node.model_copy(update={"source": swap(node.source)}) if isinstance(node, ModelNode) else node
        for node in definition.pipeline.nodes
    )
    update = {
        "pipeline": definition.pipeline.model_copy(update={"nodes": nodes}),
        "inputs": {name: swap(given) for name, given in definition.inputs.items()},
        "objects": tuple(one.model_copy(update={"X": swap(one.X), "y": swap(one.y)}) for one in definition.objects),
    }
    return definition.model_copy(update=update)
