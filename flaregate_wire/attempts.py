"""What the gateway and the containers of one attempt say to each other. No other credential reaches a container."""

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from flaregate_wire.blobs import Parts, Sending, Transfer, check_parts
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.events import Reported
from flaregate_wire.jobs import Cluster, Result
from flaregate_wire.model import PeerModel, Sha256, Time
from flaregate_wire.references import RemoteRead
from flaregate_wire.states import Reason

BATCH_EVENTS = 1000
"""Events in one batch at most."""

Role = Literal["head", "worker"]


class TrustScope(PeerModel):
    """Within which results may be shared."""

    tenant: str
    project: str


class Slots(PeerModel):
    """Where a container writes its events and its log while the gateway is away.

    An object of events has one EventBatch a line and is at most SPILL_BYTES long; one of the log is a segment.
    """

    put: tuple[Transfer, ...] = Field(description="For events, one object after the other.")
    logs: tuple[tuple[str, Transfer], ...] = Field(
        default=(), description="Keys and requests for segments of the log, each for one that an event tells of."
    )
    seconds: float = Field(gt=0, description="How long the requests are good for.")


class Order(PeerModel):
    """What one container is to do."""

    job: str
    attempt: str
    number: int = Field(ge=1)
    index: int = Field(ge=0, description="0 is the head.")
    role: Role
    token: str = Field(description="For this attempt, this container and this boot alone.")
    lease: float = Field(gt=0, description="Seconds; renewed with every answer to a batch of events.")
    deadline: Time = Field(description="When the job times out.")
    join_deadline: float = Field(default=60, gt=0, description="Seconds that workers have to join the head.")
    cluster: Cluster
    ray_token: str = Field(description="Fresh for each attempt.")
    node_secret: str | None = Field(
        default=None,
        description="Fresh for each attempt: nodes make the authority of their certificates of it, and speak TLS with "
        "each other. None: their network is private, or there is one node.",
    )
    trust_scope: TrustScope
    definition: JobDefinition | None = Field(default=None, description="For the head alone.")
    blobs: dict[Sha256, Transfer] = Field(
        default_factory=dict, description="Where staged blobs are read: the head's all, a worker's code."
    )
    references: dict[str, tuple[RemoteRead, ...]] = Field(
        default_factory=dict, description="How the head reads the files of each reference, by its address."
    )
    sizes: dict[Sha256, int] = Field(default_factory=dict, description="Bytes of each.")
    code: Sha256 | None = Field(default=None, description="Of the blobs, the archive of the user's own modules.")
    requirements: Sha256 | None = Field(default=None, description="Of the blobs, the lock of further packages.")
    spill: Slots | None = Field(default=None, description="None where the store is away with the gateway.")


class HeadAddress(PeerModel):
    """Where the head listens."""

    boot: str
    address: str = Field(description="host:port of Ray's GCS.")


class Rendezvous(PeerModel):
    """What a worker waits for: the head's address, or word that it is no longer needed."""

    head: HeadAddress | None = None
    done: bool = False


class EventBatch(PeerModel):
    """Events of one container, numbered by it from 0. An empty batch only renews the lease."""

    boot: str
    first: int = Field(ge=0, description="Number of the first event of this batch.")
    events: tuple[Reported, ...] = Field(default=(), max_length=BATCH_EVENTS)
    renew: bool = Field(default=False, description="The slots of the order are getting old: give new requests.")


class BatchAnswer(PeerModel):
    """What the gateway has, how long the container may go on, and what it wishes."""

    acknowledged: int = Field(description="The number that the next event must have.")
    lease: float = Field(description="Seconds from now.")
    cancel: bool = False
    spill: Slots | None = Field(default=None, description="The slots again, for a batch that asked to renew them.")


class ObjectsRequest(PeerModel):
    """Names under the attempt's own prefix that the container wants to write.

    A name that starts with `cache/` is kept in the trust scope, beyond the job.
    """

    put: Annotated[tuple[str, ...], Field(max_length=1000)]


class ObjectsAnswer(PeerModel):
    """The keys and presigned requests for the names asked for, in order."""

    put: tuple[tuple[str, Transfer], ...]


class LargeObject(PeerModel):
    """A large object that the container wants to write, in parts; its name is as in ObjectsRequest.

    Asking again with `upload` gives requests for what is missing.
    """

    name: str
    size: int = Field(ge=0, description="Bytes.")
    parts: Annotated[Parts, Field(min_length=1)]
    upload: str | None = Field(default=None, description="What the first answer said.")

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        check_parts(self.parts, self.size)
        return self


class LargePlace(PeerModel):
    """Where to send the missing parts of a large object: not of all where they are many."""

    key: str
    upload: str
    send: tuple[Sending, ...] = ()
    missing: int = Field(ge=0, description="Bytes that are not there yet.")


class CacheObject(PeerModel):
    """An object of the cache: a segment of results, or one large result."""

    key: str
    size: int = Field(ge=0, description="Bytes.")
    sha256: Sha256


class CacheLine(PeerModel):
    """One entry in a segment: a line of JSON."""

    shelf: str
    key: str
    report: dict[str, JsonValue]
    blob: CacheObject | None = None


class CacheLookup(PeerModel):
    """What a container would like to know: everything under these shelves."""

    shelves: Annotated[tuple[str, ...], Field(max_length=1000)] = Field(
        description="Digests that group the results of one node behind one upstream on one source."
    )


class CacheSegment(PeerModel):
    """One segment of a shelf, and where to read it. A shelf's segments come oldest first."""

    shelf: str
    object: CacheObject
    get: Transfer
    job: str = Field(description="The job whose attempt made it.")


class CacheFound(PeerModel):
    """Every segment of the shelves asked for, that this job's trust scope may read."""

    segments: tuple[CacheSegment, ...] = ()


class CacheFetch(PeerModel):
    """Large results that segments refer to, to be read."""

    keys: Annotated[tuple[str, ...], Field(max_length=1000)]


class CacheFetched(PeerModel):
    """Presigned requests for the keys asked for; those that are gone are left out."""

    get: dict[str, Transfer] = Field(default_factory=dict)


class CacheKeep(PeerModel):
    """Segments that the container has written, under keys of its own attempt, write-once."""

    segments: Annotated[tuple[tuple[str, CacheObject], ...], Field(max_length=1000)] = Field(
        description="(shelf, object) each; one object may serve several shelves."
    )
    objects: Annotated[tuple[CacheObject, ...], Field(max_length=1000)] = Field(
        default=(), description="Large results that these segments refer to."
    )


class CommittedArtifact(PeerModel):
    """An object that the attempt wrote and the job leaves behind."""

    name: str
    key: str
    media_type: str
    size: int = Field(ge=0)
    sha256: Sha256


class Manifest(PeerModel):
    """How the attempt ended. One is taken for each job; the terminal state waits until all containers are gone."""

    boot: str
    succeeded: bool
    reason: Reason | None = None
    message: str | None = None
    result: Result | None = None
    artifacts: tuple[CommittedArtifact, ...] = ()
    damaged: tuple[Sha256, ...] = Field(
        default=(), description="Staged blobs whose bytes are not theirs, or are not there: they are to be sent again."
    )
    log_tail: tuple[str, ...] = Field(default=(), max_length=20)
