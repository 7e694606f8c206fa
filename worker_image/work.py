"""What supervisor and driver say to each other over the driver's pipes, one JSON document a line."""

from typing import Literal

from pydantic import Field, TypeAdapter

from flaregate_wire.definitions import JobDefinition
from flaregate_wire.events import Reported
from flaregate_wire.jobs import Cluster, Result
from flaregate_wire.model import PeerModel
from flaregate_wire.states import Reason


class Work(PeerModel):
    """Supervisor to driver, first line: the inputs are on this machine."""

    definition: JobDefinition
    cluster: Cluster
    attempt: int
    blobs: dict[str, str] = Field(description="Path of each staged blob, by sha256; every sum has been checked.")
    scratch: str = Field(description="A folder for artifacts; the supervisor removes it.")
    join_deadline: float = Field(default=60, gt=0, description="Seconds to wait for `cluster.min_workers`.")


class RayReady(PeerModel):
    """Supervisor to driver, second line: Ray can be joined. Its token is in RAY_AUTH_TOKEN."""

    address: str = Field(description="host:port of the GCS.")


class LocalArtifact(PeerModel):
    """A file that the driver wrote under `scratch`."""

    name: str
    path: str
    media_type: str


class Finished(PeerModel):
    """Driver to supervisor, last line."""

    type: Literal["finished"] = "finished"
    succeeded: bool
    reason: Reason | None = None
    message: str | None = None
    result: Result | None = None
    artifacts: tuple[LocalArtifact, ...] = ()


class Reporting(PeerModel):
    """Driver to supervisor: an event to pass on."""

    type: Literal["event"] = "event"
    event: Reported


FROM_DRIVER: TypeAdapter[Finished | Reporting] = TypeAdapter(Finished | Reporting)
