"""What supervisor and driver say to each other over the driver's pipes, one JSON document a line."""

from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue, TypeAdapter

from flaregate_wire.definitions import EstimatorNode, FunctionNode, JobDefinition
from flaregate_wire.events import Reported
from flaregate_wire.jobs import Cluster, Result
from flaregate_wire.model import PeerModel
from flaregate_wire.states import Reason

ALONE_SECONDS = 10.0
"""A head by itself starts Ray, and goes over to it, for a job that lasts longer: on Ray it has no more CPUs."""


def needs_ray(definition: JobDefinition, cluster: Cluster) -> bool:
    """Whether a job wants what only Ray has: GPUs, memory kept free, or workers before the first task."""
    nodes = (node for node in definition.pipeline.nodes if isinstance(node, EstimatorNode | FunctionNode))
    return bool(cluster.gpus or cluster.min_workers or any(one.needs.num_gpus or one.needs.memory for one in nodes))


class GatewayAccess(PeerModel):
    """How the driver reaches the gateway itself; in no environment, so that the user's code does not have it."""

    url: str
    attempt: str
    token: str = Field(repr=False)
    boot: str
    drops: Path | None = None
    """As in the container's settings."""


class LocalFile(PeerModel):
    """A file of a reference, on this machine."""

    address: str = Field(description="Where it came from.")
    path: str
    content: JsonValue = Field(description="What tells its bytes from others.")


class Work(PeerModel):
    """Supervisor to driver: a job, and its inputs are on this machine."""

    job: str = ""
    definition: JobDefinition
    cluster: Cluster
    attempt: int
    blobs: dict[str, str] = Field(description="Path of each staged blob, by sha256; every sum has been checked.")
    references: dict[str, tuple[LocalFile, ...]] = Field(
        default_factory=dict, description="The files of each reference, by its address."
    )
    code: tuple[str, ...] = Field(default=(), description="Folders that processes of user code import from first.")
    scratch: str = Field(description="A folder for artifacts; the supervisor removes it.")
    join_deadline: float = Field(default=60, gt=0, description="Seconds to wait for `cluster.min_workers`.")
    gateway: GatewayAccess | None = None
    last: bool = Field(default=True, description="Whether the driver ends after it; else it waits for another job.")


class RayReady(PeerModel):
    """Supervisor to driver, once: Ray can be joined. Its token is in RAY_AUTH_TOKEN."""

    address: str = Field(description="host:port of the GCS.")


class LocalArtifact(PeerModel):
    """A file that the driver wrote under `scratch`."""

    name: str
    path: str
    media_type: str


class Finished(PeerModel):
    """Driver to supervisor, the last line of a job."""

    type: Literal["finished"] = "finished"
    succeeded: bool
    reason: Reason | None = None
    message: str | None = None
    result: Result | None = None
    artifacts: tuple[LocalArtifact, ...] = ()


class Reporting(PeerModel):
    """Driver to supervisor: an event to pass on, once these files are in the store."""

    type: Literal["event"] = "event"
    event: Reported
    artifacts: tuple[LocalArtifact, ...] = ()


FROM_DRIVER: TypeAdapter[Finished | Reporting] = TypeAdapter(Finished | Reporting)
