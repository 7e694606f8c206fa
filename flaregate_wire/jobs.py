"""What the gateway shows of a job."""

from typing import Literal

from pydantic import Field, JsonValue

from flaregate_wire.definitions import Action, JobDefinition
from flaregate_wire.model import PeerModel, Time
from flaregate_wire.states import Reason, State


class Condition(PeerModel):
    """Something that is the case beside the state, with when it began."""

    name: str
    since: Time
    message: str | None = None


class Progress(PeerModel):
    """How far the tasks are; the last progress event."""

    done: int = 0
    total: int | None = None
    cached: int = 0
    failed: int = 0
    eta: float | None = Field(default=None, description="Seconds, estimated.")


class Usage(PeerModel):
    """What the job has used: from the observed start to the observed end of each container."""

    vcpu_seconds: float = 0.0
    gib_seconds: float = 0.0
    cost: str = Field(default="unknown", description="Decimal amount and currency, or `unknown`; never a guess.")


class Cluster(PeerModel):
    """What the gateway chose to launch, and why."""

    topology: Literal["single", "cluster"]
    workers: int
    min_workers: int
    cpus: float
    memory: int = Field(description="Bytes of each container.")
    gpus: int = 0
    why: str

    @property
    def instances(self) -> int:
        """Containers: the head and the workers."""
        return 1 + self.workers


class Place(PeerModel):
    """A queued job's place among those that wait for room on the platform."""

    position: int = Field(description="From 1.")
    length: int = Field(description="Jobs that wait.")
    reason: str


class AttemptView(PeerModel):
    """One try at running the job."""

    id: str
    number: int
    timeline: dict[str, Time] = Field(description="When each phase was first reached.")
    reason: Reason | None = None


class Stats(PeerModel):
    """What the engine counted."""

    tasks: int = 0
    fits: dict[str, int] = Field(default_factory=dict, description="Fits on folds, or on all rows for `fit`, by node.")
    refits: dict[str, int] = Field(default_factory=dict, description="Fits of the best candidate on all rows, by node.")
    inner_fits: dict[str, int] = Field(
        default_factory=dict, description="Fits inside out-of-fold predictions, by node."
    )
    cached: int = Field(default=0, description="Tasks that came from the cache.")
    seconds: float = Field(default=0.0, description="Of all tasks together, in their processes.")
    hosts: tuple[str, ...] = Field(default=(), description="Nodes on which tasks ran.")
    runner: str = ""


class ArtifactView(PeerModel):
    """A named object that the job left in the store."""

    name: str
    media_type: str
    size: int = Field(description="Bytes.")
    sha256: str


class Result(PeerModel):
    """What a finished job gave, without its outcomes."""

    outcomes: int
    failed: int
    best: int | None = Field(default=None, description="The candidate with the best mean test score.")
    refit_time: float | None = Field(default=None, description="Seconds.")
    stats: Stats = Stats()
    versions: dict[str, str] = Field(default_factory=dict)


class JobView(PeerModel):
    """A job as the gateway shows it."""

    id: str
    name: str
    action: Action
    project: str
    labels: dict[str, str]
    state: State
    reason: Reason | None = None
    message: str | None = None
    hint: str | None = None
    wish: Literal["cancel"] | None = None
    created: Time
    ended: Time | None = None
    expires: Time | None = Field(default=None, description="When it is removed with all that it left; set at its end.")
    conditions: tuple[Condition, ...] = ()
    attempts: tuple[AttemptView, ...] = ()
    place: Place | None = Field(default=None, description="In the queue, while it waits for room on the platform.")
    timeline: dict[str, Time] = Field(
        default_factory=dict, description="queued, first_outcome, done, and the last attempt's phases."
    )
    cluster: Cluster
    progress: Progress = Progress()
    usage: Usage = Usage()
    result: Result | None = None
    log_tail: tuple[str, ...] = Field(default=(), description="The last 20 log lines of a job that failed.")
    definition: JobDefinition | None = Field(default=None, description="Only when one job is asked for.")
    version: int = Field(description="Grows with every change; the ETag.")


class JobPage(PeerModel):
    """A page of jobs, newest first."""

    jobs: tuple[JobView, ...]
    next: str | None = Field(default=None, description="Cursor of the next page.")


class ArtifactPage(PeerModel):
    """All artifacts of a job."""

    artifacts: tuple[ArtifactView, ...]


class PlanView(PeerModel):
    """What a job would do, without running it."""

    candidates: int
    folds: int | None = Field(default=None, description="None: not known before the inputs are read.")
    tasks: int | None = Field(
        default=None,
        description="Distinct tasks, after sharing, of `map` its blocks; None while folds or blocks are not known.",
    )
    tasks_unshared: int | None = Field(default=None, description="Tasks if no prefix were shared.")
    steps: dict[str, int] = Field(description="Distinct settings of each node.")
    cached: int | None = Field(
        default=None,
        description="Tasks that a run would not compute, because they or all that reads them are in the cache; the "
        "refit is not among them. Of `map`: blocks. None: not known.",
    )
    cached_why: str | None = Field(default=None, description="Why `cached` is not known, in a phrase.")
    cluster: Cluster
    cost: str = Field(
        default="unknown", description="Of the whole cluster until the timeout: what one attempt costs at most."
    )
    cost_hour: str = Field(default="unknown", description="Of an hour of the whole cluster.")


class CacheRemoved(PeerModel):
    """What was taken out of the cache."""

    objects: int = Field(description="Segments of results, and large results.")
    size: int = Field(description="Bytes.")


class Garbage(PeerModel):
    """One kind of things that are not needed any more."""

    kind: Literal["uploads", "blobs", "jobs", "cache", "objects", "packages"] = Field(
        description="`uploads` in parts that nobody goes on with; `blobs` that no job refers to and nobody has named "
        "for a while; `jobs` whose time is over, with all that they left; entries of the `cache` over its limit or "
        "age; `objects` in the store that nothing refers to; `packages` that jobs of the local launcher have brought "
        "and that none has used for a while."
    )
    count: int = 0
    size: int = Field(default=0, description="Bytes.")
    examples: tuple[str, ...] = Field(default=(), description="Names of the first few.")


class GarbageReport(PeerModel):
    """What was removed, or would be."""

    dry_run: bool
    found: tuple[Garbage, ...]
    whole: bool = Field(description="False: there is more than one request takes; ask again.")


class Limit(PeerModel):
    """One limit that the gateway enforces."""

    name: str
    value: JsonValue
    unit: str


class PriceView(PeerModel):
    """What the platform asks for a container, from its start to its end."""

    launcher: str
    vcpu_second: str = Field(description="Decimal amount and currency, or `unknown`.")
    gib_second: str
    source: str


class Principal(PeerModel):
    """Who is asking."""

    tenant: str
    name: str
