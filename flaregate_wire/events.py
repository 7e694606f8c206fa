"""What happens in a job, one event at a time. The gateway gives each event its `id`; ids grow by one in a job."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter

from flaregate_wire.model import PeerModel, Sha256, Time
from flaregate_wire.states import Reason, State
from flaregate_wire.values import Value

EVENT_BYTES = 64 * 1024
"""An encoded event is at most this long: tracebacks are cut in the middle, arrays are artifacts."""


class _Event(PeerModel):
    id: int | None = Field(default=None, ge=1, description="Given by the gateway when it takes the event in.")
    time: Time
    attempt: int = Field(default=0, ge=0, description="Number of the attempt; 0 before the first.")


class StateEvent(_Event):
    """The job moved."""

    type: Literal["state"] = "state"
    state: State
    reason: Reason | None = None
    message: str | None = None


class ConditionEvent(_Event):
    """Something about the job is or is no longer the case, e.g. that the platform cannot be seen."""

    type: Literal["condition"] = "condition"
    name: str
    active: bool
    message: str | None = None


AttemptPhase = Literal[  # "released": the head's word that the container `index` has nothing left to do
    "launched",  # of a container above 0: it shall take the place of a lost worker, which `detail` names
    "booted",
    "inputs_ready",
    "ray_ready",
    "joined",
    "first_task",
    "last_task",
    "released",
    "lost",  # a worker ended before it was released, or will not start; `detail` says how or why
    "committed",
    "gone",
]


class AttemptEvent(_Event):
    """An attempt or one of its containers reached a phase."""

    type: Literal["attempt"] = "attempt"
    phase: AttemptPhase
    index: int = Field(default=0, ge=0, description="The container: 0 the head, then the workers.")
    detail: dict[str, JsonValue] = Field(default_factory=dict)


class ProgressEvent(_Event):
    """How far the tasks are."""

    type: Literal["progress"] = "progress"
    done: int
    total: int | None = Field(description="None while the folds are not known yet.")
    cached: int = 0
    failed: int = 0
    eta: float | None = Field(default=None, description="Seconds, estimated.")


class NodeEvent(_Event):
    """How often one DAG node has been fitted."""

    type: Literal["node"] = "node"
    node: str
    fits: int
    refits: int = 0


class ErrorDetail(PeerModel):
    """What user code raised."""

    type: str
    message: str
    traceback: str = ""


class WarningDetail(PeerModel):
    """A warning that a task gave."""

    category: str = Field(description="`module:Name` of the warning's class.")
    message: str


class OutcomeEvent(_Event):
    """What one candidate gave."""

    type: Literal["outcome"] = "outcome"
    candidate: int = Field(ge=0)
    path: tuple[str, ...]
    axes: tuple[tuple[str, str, JsonValue], ...] = Field(default=(), description="(node, parameter, value) each.")
    object: str | None = None
    scores: dict[str, tuple[JsonValue, ...]] | None = Field(
        default=None, description="A number for each fold by scorer; NaN and infinities as `{'$float': …}`."
    )
    train_scores: dict[str, tuple[JsonValue, ...]] | None = None
    mean: JsonValue = None
    std: JsonValue = None
    error: ErrorDetail | None = None
    cached: bool = False
    warnings: tuple[WarningDetail, ...] = ()
    times: dict[str, float | tuple[float, ...]] = Field(
        default_factory=dict, description="Seconds: `fit` and `score`, a mean over folds; `fit_folds`, `score_folds`."
    )
    metrics: dict[str, JsonValue] | None = Field(default=None, description="The numbers that a sweep's cell gave.")
    output: Value | None = Field(default=None, description="What it gave, where that is small; else see `artifact`.")
    iteration: int | None = Field(default=None, ge=0, description="Of successive halving.")
    resources: int | None = Field(default=None, description="Of successive halving: what the candidate had.")
    artifact: str | None = Field(default=None, description="Name of the artifact with its fitted pipeline or output.")
    lineage: tuple[str, ...] = Field(default=(), description="Digests of the steps it came from, in path order.")


class LogEvent(_Event):
    """A segment of a container's log is in the store."""

    type: Literal["log"] = "log"
    index: int = Field(ge=0, description="The container: 0 the head, then the workers.")
    key: str
    start: int = Field(ge=0, description="Offset of its first byte in that container's log.")
    size: int = Field(ge=1, description="Bytes.")


class ArtifactEvent(_Event):
    """An object that the job leaves is in the store; it can be read from now on."""

    type: Literal["artifact"] = "artifact"
    name: str
    key: str
    media_type: str
    size: int = Field(ge=0, description="Bytes.")
    sha256: Sha256


class MetricsEvent(_Event):
    """What running code reported of itself by `fg.report`."""

    type: Literal["metrics"] = "metrics"
    candidate: int = Field(ge=0)
    step: int
    values: dict[str, JsonValue]


class UsageEvent(_Event):
    """What the job has used until now."""

    type: Literal["usage"] = "usage"
    vcpu_seconds: float
    gib_seconds: float
    cost: str = Field(default="unknown", description="Decimal amount and currency, or `unknown`.")


class EndEvent(_Event):
    """The last event of every job: its terminal state."""

    type: Literal["end"] = "end"
    state: State
    reason: Reason | None = None
    message: str | None = None


Event = Annotated[
    StateEvent
    | ConditionEvent
    | AttemptEvent
    | ProgressEvent
    | NodeEvent
    | OutcomeEvent
    | LogEvent
    | ArtifactEvent
    | MetricsEvent
    | UsageEvent
    | EndEvent,
    Field(discriminator="type"),
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)

Reported = Annotated[
    AttemptEvent | ProgressEvent | NodeEvent | OutcomeEvent | LogEvent | ArtifactEvent | MetricsEvent,
    Field(discriminator="type"),
]
"""The events that a container may report; the others are the gateway's own word."""


def encode(event: Event) -> bytes:
    """One line of compact JSON without a newline."""
    return event.model_dump_json(exclude_none=True).encode()
