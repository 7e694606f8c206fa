"""What the gateway keeps of a job and of its attempts. Frozen; every change makes a new one."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from pydantic import TypeAdapter

from flaregate_wire.attempts import CommittedArtifact, HeadAddress
from flaregate_wire.definitions import Action
from flaregate_wire.jobs import Cluster, Condition, Progress, Result, Usage
from flaregate_wire.references import RemoteFile
from flaregate_wire.states import Reason, State


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attempt ends, decided before its containers are gone. It is given once."""

    state: State
    """RETRYING, or the terminal state that the job will have."""
    at: datetime
    reason: Reason | None = None
    message: str | None = None
    committed: bool = False
    """The head's own word; without it the head may still send its last log lines while it is asked to end."""


@dataclass(frozen=True, slots=True)
class Instance:
    """When the platform saw one container start and end."""

    started: datetime
    ended: datetime | None = None


@dataclass(frozen=True, slots=True)
class StandIn:
    """Of a worker that takes the place of a lost one."""

    place: int
    """The number of the worker that had it first."""
    due: datetime
    """When the platform may be asked for it, at the earliest."""


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try at running a job. The row is there before the platform is asked for anything."""

    id: str
    tenant: str
    job: str
    number: int
    created: datetime
    launched: datetime | None = None
    renewed: datetime | None = None
    """When a container last had its lease renewed."""
    boots: dict[int, str] = field(default_factory=dict)
    head: HeadAddress | None = None
    expected: dict[int, int] = field(default_factory=dict)
    """The number that the next event of each container must have."""
    timeline: dict[str, datetime] = field(default_factory=dict)
    replacements: tuple[int, ...] = ()
    """Numbers of the workers that take the place of lost ones."""
    stand_ins: dict[int, StandIn] = field(default_factory=dict)
    """Of each of them, whose place and when."""
    lost: tuple[int, ...] = ()
    """Workers that ended before anybody said that they were not needed."""
    released: tuple[int, ...] = ()
    """Workers that have nothing left to do; they end while the head goes on."""
    verdict: Verdict | None = None
    stopped: datetime | None = None
    """When the platform was last asked to end the containers."""
    forced: bool = False
    instances: dict[int, Instance] = field(default_factory=dict)
    gone: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job, without its definition."""

    id: str
    tenant: str
    name: str
    action: Action
    project: str
    labels: dict[str, str]
    state: State
    since: datetime
    created: datetime
    cluster: Cluster
    timeout: float
    retries: int
    code: str = ""
    """Sums of the code and packages that it brings."""
    max_cost: str | None = None
    """`0.50 USD`; with this it is cancelled."""
    cache: Literal["on", "off", "read"] = "on"
    keep: float | None = None
    """Seconds from its end until it is removed; None: for ever."""
    reason: Reason | None = None
    message: str | None = None
    wish: Reason | None = None
    """Why the job shall be cancelled; None while nobody wishes it."""
    started: datetime | None = None
    """When its first attempt was begun; its timeout counts from here."""
    ended: datetime | None = None
    expires: datetime | None = None
    """When it is removed, with all that it left; set at its end."""
    conditions: tuple[Condition, ...] = ()
    progress: Progress = field(default_factory=Progress)
    usage: Usage = field(default_factory=Usage)
    """Of the attempts that are gone."""
    result: Result | None = None
    log_tail: tuple[str, ...] = ()
    timeline: dict[str, datetime] = field(default_factory=dict)
    references: dict[str, tuple[RemoteFile, ...] | None] = field(default_factory=dict)
    """By address: the files of each reference, as they were before the first attempt; None until they are known."""
    attempts: int = 0
    last_event: int = 0
    version: int = 1

    @property
    def resolved(self) -> bool:
        """Whether it is known what all its references are."""
        return None not in self.references.values()


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of one container's log in the store."""

    attempt: int
    index: int
    start: int
    size: int
    key: str


@dataclass(frozen=True, slots=True)
class Blob:
    """Staged bytes, or where they are to be staged."""

    tenant: str
    sha256: str
    size: int
    media_type: str
    key: str
    complete: bool
    upload: str | None = None
    """The store's name for an upload in parts, until it is complete."""
    parts: str | None = None
    """Its parts, as JSON: size and sum of each."""
    used: str = ""
    """When a submission or an offer last named it; RFC 3339."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload in parts that an attempt has begun."""

    key: str
    name: str
    """The store's."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the first request with an Idempotency-Key was answered."""

    key: str
    body: str
    """sha256 of the request's body."""
    view: bytes


JOB: TypeAdapter[JobRecord] = TypeAdapter(JobRecord)
ATTEMPT: TypeAdapter[AttemptRecord] = TypeAdapter(AttemptRecord)

__all__ = [
    "ATTEMPT",
    "JOB",
    "Answer",
    "AttemptRecord",
    "Blob",
    "CommittedArtifact",
    "Instance",
    "JobRecord",
    "Segment",
    "StandIn",
    "Upload",
    "Verdict",
]
