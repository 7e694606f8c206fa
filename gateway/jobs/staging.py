"""What is in the store before a job begins: blobs that users send, and earlier jobs' artifacts that serve as blobs."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import TypeVar

from pydantic import TypeAdapter

from flaregate_wire.blobs import BlobAnswer, BlobOffer, Part, Sending
from flaregate_wire.definitions import Artifact, JobDefinition, ModelNode
from flaregate_wire.definitions import Blob as Staged
from flaregate_wire.limits import BLOB_BYTES, PUT_BYTES
from flaregate_wire.model import rfc3339
from flaregate_wire.problems import Fault
from gateway.jobs.errors import BlobMismatch, InvalidDefinition, JobMissing, TooLarge
from gateway.jobs.needs import Left, Needs
from gateway.jobs.placing import new_key
from gateway.jobs.records import Blob
from gateway.jobs.repository import SqlRepository
from gateway.jobs.sending import in_parts
from gateway.stores.base import Expected, ObjectMismatch, ObjectMissing, Store, UploadMissing

T = TypeVar("T")
_PARTS: TypeAdapter[tuple[Part, ...]] = TypeAdapter(tuple[Part, ...])


class Staging:
    """One gateway's staged blobs. Every method takes the tenant that asks."""

    def __init__(self, repository: SqlRepository, store: Store, url_age: float, clock: Callable[[], datetime]) -> None:
        self._repository = repository
        self._index = repository.staged
        self._store = store
        self._url_age = url_age
        self._now = clock

    async def offer(self, tenant: str, offer: BlobOffer) -> BlobAnswer:
        """Whether it is staged, or where to send what is missing: to a random key, bound to size and sums."""
        _check_size(offer)
        used = rfc3339(self._now())
        key = new_key(tenant)
        blob = Blob(tenant, offer.sha256, offer.size, offer.media_type, key, complete=False, used=used)
        kept = await self._index.offer(blob)  # an earlier offer of the same bytes keeps its place
        if kept.size != offer.size:
            raise BlobMismatch(f"{offer.sha256} was announced with {kept.size} bytes before, now with {offer.size}")
        there: frozenset[int] = frozenset()
        if offer.parts and not kept.complete:
            kept, there = await self._taken_up(kept, offer.parts)
        if kept.complete:
            return BlobAnswer(exists=True)
        if offer.parts:
            upload, missing = in_parts(self._store, kept.key, kept.upload, offer.parts, there)
        else:
            whole = self._store.presign("PUT", kept.key, Expected(kept.size, kept.sha256))
            upload, missing = (Sending.of(whole),), kept.size
        expires = self._now() + timedelta(seconds=self._url_age)
        return BlobAnswer(exists=False, upload=upload, missing=missing, expires=expires)

    async def _taken_up(self, kept: Blob, parts: tuple[Part, ...]) -> tuple[Blob, frozenset[int]]:
        """The blob with an upload in these parts, and which of them have arrived.

        Of two requests at once one begins the upload. An offer with other parts gives the one before it up.
        """
        cut = _PARTS.dump_json(parts).decode()
        while not kept.complete:
            if kept.upload is not None and kept.parts == cut:
                there = await self._arrived(kept, kept.upload, parts)
                if there is not None:
                    return kept, there
            begun = await self._store.begin(kept.key, parts)
            before, kept = kept.upload, await self._index.begin(kept, begun, cut)
            over = begun if kept.upload != begun else before
            if over is not None:
                await self._store.abandon(kept.key, over)
            if kept.upload == begun:
                break
        return kept, frozenset()

    async def _arrived(self, blob: Blob, upload: str, parts: tuple[Part, ...]) -> frozenset[int] | None:
        """Numbers of the parts that are there; None where the store has forgotten the upload."""
        try:
            return await self._store.arrived(blob.key, upload, parts)
        except UploadMissing:
            return frozenset(range(len(parts))) if await self._there(blob) else None

    async def _there(self, blob: Blob) -> bool:
        """Whether an object of its size is at its key."""
        try:
            return (await self._store.head(blob.key)).size == blob.size
        except ObjectMissing:
            return False

    async def complete(self, tenant: str, sha256: str) -> None:
        """The bytes were sent: check that they are there, and make them known."""
        blob = (await self._repository.blobs(tenant, (sha256,))).get(sha256)
        if blob is None:
            raise JobMissing(f"nothing was announced as {sha256}")
        if blob.complete:
            return
        left = await self._put_together(blob)
        begun = await self._index.complete(blob)  # by another client, whose parts are not needed any more
        for upload in (left, begun):
            if upload is not None:
                await self._store.abandon(blob.key, upload)

    async def _put_together(self, blob: Blob) -> str | None:
        """Make the object of its parts, if it was sent in parts; gives an upload that was not needed."""
        wrong, left = "nothing has been sent yet", None
        if blob.upload is not None:
            try:
                await self._store.finish(blob.key, blob.upload, _PARTS.validate_json(blob.parts or "[]"))
            except (UploadMissing, ObjectMismatch) as error:  # or it was sent whole, or by another client
                wrong, left = str(error), blob.upload
        try:
            info = await self._store.head(blob.key)
        except ObjectMissing as error:
            raise BlobMismatch(wrong) from error
        if info.size != blob.size:
            raise BlobMismatch(f"{info.size} bytes came, {blob.size} were announced")
        return left

    async def sweep(self, before: datetime) -> int:
        """Give up uploads in parts, of all tenants, that nobody has gone on with since; gives how many."""
        blobs, uploads = await self._index.idle(before)
        for blob in blobs:
            await self._store.abandon(blob.key, blob.upload or "")
            await self._index.forget_upload(blob)
        for upload in uploads:
            await self._store.abandon(upload.key, upload.name)
            await self._index.over(upload)
        return len(blobs) + len(uploads)

    async def resolve(self, tenant: str, definition: JobDefinition) -> tuple[JobDefinition, Needs]:
        """The definition with blobs in place of artifacts, and all that it refers to. Raises InvalidDefinition."""
        found: dict[str, Left] = {}
        wrong: list[Fault] = []
        for pointer, given in _artifacts(definition):
            left = await self._artifact(tenant, given)
            if isinstance(left, Left):
                found[given.artifact] = left
            else:
                wrong.append(Fault(pointer=pointer, rule="artifact", message=left))
        if wrong:
            raise InvalidDefinition("; ".join(item.message for item in wrong), tuple(wrong))
        if found:
            definition = await self._with_code(definition)
            definition = _staged(definition, {name: left.blob for name, left in found.items()})
        return definition, Needs(definition.blobs(), tuple(found.values()))

    async def _with_code(self, definition: JobDefinition) -> JobDefinition:
        """With the code and packages of the job that fitted the pipeline, where it brings none itself."""
        (node, *_) = definition.pipeline.nodes
        if not isinstance(node, ModelNode) or not isinstance(node.source, Artifact):
            return definition
        job = node.source.artifact.removeprefix("job:").partition("/")[0]
        stored = await self._repository.definition(job)
        if not stored:  # removed just now; what refers to its artifact is refused when it is written
            return definition
        origin = JobDefinition.model_validate_json(stored)
        code = definition.code or origin.code
        node = node.model_copy(update={"code": None if code is None else code.blob})
        update = {
            "pipeline": definition.pipeline.model_copy(update={"nodes": (node,)}),
            "code": code,
            "requirements": definition.requirements or origin.requirements,
        }
        return definition.model_copy(update=update)

    async def _artifact(self, tenant: str, given: Artifact) -> Left | str:
        """An artifact as a blob of its owner, or what is wrong with the reference."""
        job, _, name = given.artifact.removeprefix("job:").partition("/")
        current = await self._repository.current(job)
        if current is None or current[0].tenant != tenant:
            return f"there is no job {job!r}"
        left = await self._repository.artifacts(job)
        for item in left:
            if item.name == name:
                used = rfc3339(self._now())
                blob = Blob(tenant, item.sha256, item.size, item.media_type, item.key, complete=True, used=used)
                return Left(job, name, blob)
        return f"job {job!r} left no artifact {name!r}; it left {', '.join(item.name for item in left) or 'none'}"


def _check_size(offer: BlobOffer) -> None:
    if offer.size > BLOB_BYTES:
        raise TooLarge(f"{offer.size} bytes; the limit blob_bytes is {BLOB_BYTES} bytes")
    if offer.size > PUT_BYTES and not offer.parts:
        raise TooLarge(f"{offer.size} bytes; the limit put_bytes is {PUT_BYTES} bytes: offer more than that in `parts`")


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
