"""The contract between the gateway and a platform that runs containers."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from flaregate_wire.jobs import Cluster

SHM_SHARE = 0.4
"""Of a container's memory that /dev/shm may take: Ray's object store lies there."""


class LaunchRefused(Exception):
    """The platform will never take this order (bad size, no permission): asking again is useless."""


class ImageRefused(LaunchRefused):
    """The platform has no such image, or may not have it."""


class LaunchFailed(Exception):
    """The platform did not take the order this time; the same order may be launched again."""


class CannotSee(Exception):
    """The platform gave no answer. It says nothing about what runs there."""


class Barred(CannotSee, LaunchFailed):
    """The platform does not let the gateway in: nothing is seen or launched until someone mends key, rights or name."""


class Phase(StrEnum):
    """What a platform says of a container."""

    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"


class Trouble(StrEnum):
    """Why a container does not start, or has ended, where the platform says so."""

    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_DISK = "out_of_disk"
    IMAGE_PULL = "image_pull"
    """There is no such image, or it is not for us: no other try mends that."""
    IMAGE_RETRIED = "image_retried"
    """The image could not be pulled so far; while it is pending, the platform tries again."""
    MISCONFIGURED = "misconfigured"
    """The platform cannot make the container as it is configured; while it is pending, it tries again."""


@dataclass(frozen=True, slots=True)
class LaunchOrder:
    """One attempt to launch: a head (index 0) and workers (1 …) of the same size."""

    job: str
    attempt: str
    tenant: str
    cluster: Cluster
    gateway_url: str
    bootstrap: str = field(repr=False)
    """Exchanged by each container for its order and token; not a secret of the platform."""
    max_seconds: float
    """After this long the platform may end the containers by itself."""
    code: str = ""
    """Which code and packages the job brings: a container that has others cannot have it."""
    replacements: tuple[int, ...] = ()
    """Numbers, above the cluster's own, of workers that take the place of lost ones: launched like the others."""

    lost: tuple[int, ...] = ()
    """Numbers of workers that have ended; a platform that has forgotten them shall not start them anew."""

    @property
    def indices(self) -> tuple[int, ...]:
        """The containers that shall have been started, and shall be if they were not: 0 is the head."""
        return tuple(index for index in (*range(self.cluster.instances), *self.replacements) if index not in self.lost)


@dataclass(frozen=True, slots=True)
class Handle:
    """A platform's name for the run of one attempt. The same attempt has the same handle, always."""

    attempt: str
    name: str


@dataclass(frozen=True, slots=True)
class InstanceSighting:
    """What the platform says of one container."""

    index: int
    phase: Phase
    started: datetime | None = None
    ended: datetime | None = None
    exit_code: int | None = None
    """None where the platform does not know it; minus the signal's number where a signal ended it."""
    trouble: Trouble | None = None
    story: str = ""
    """The platform's own words on it."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the platform says of one run. No instances: it knows nothing of it, so nothing of it is left."""

    instances: tuple[InstanceSighting, ...] = ()

    @property
    def gone(self) -> bool:
        """Whether nothing of the run is alive or will be."""
        return all(instance.phase is Phase.ENDED for instance in self.instances)

    @property
    def head(self) -> InstanceSighting | None:
        """The head's container."""
        return next((instance for instance in self.instances if instance.index == 0), None)


@dataclass(frozen=True, slots=True)
class Quota:
    """What all runs of this gateway together may have; None where the platform sets no limit."""

    cpus: float | None = None
    memory: int | None = None
    """Bytes."""
    instances: int | None = None
    runs: int | None = None
    """Runs that the platform remembers, ended ones too until they are forgotten."""


NO_QUOTA = Quota()
"""No limit."""


@dataclass(frozen=True, slots=True)
class Price:
    """What the platform asks for a container, from its start to its end."""

    vcpu_second: Decimal
    gib_second: Decimal
    currency: str
    source: str
    """Where the figures come from, and when."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a platform can do."""

    name: str
    peer_tcp: bool
    """Whether containers of one run reach each other by TCP; else only `single` topology."""
    max_cpus: float
    """Of all containers of a run together."""
    max_memory: int
    """Bytes, of all containers of a run together."""
    gpus: int
    lease: float
    """Seconds."""
    sizes: tuple[tuple[float, int], ...] = ()
    """The (vCPU, bytes of memory) that a container may have, smallest first; empty: any."""
    max_seconds: float | None = None
    """How long a run may last at most."""
    linger: float = 0.5
    """Seconds that the containers of a job that has committed have to end by themselves, before they are ended."""
    private_network: bool = True
    """Whether nobody else can listen between the containers of a run. Nodes of Ray have a token of each attempt."""
    quota: Quota = NO_QUOTA
    price: Price | None = None
    """None: not known; a job with a cost cap is refused."""


class Launcher(Protocol):
    """Runs attempts. Every method may be repeated; none blocks the event loop."""

    @property
    def capabilities(self) -> Capabilities: ...

    def environment(self) -> Mapping[str, str]:
        """Versions in the containers, by distribution name and `python`; compared at submission."""
        ...

    def handle(self, attempt: str) -> Handle:
        """The handle that `launch` gives for an attempt; no call to the platform."""
        ...

    async def launch(self, order: LaunchOrder) -> Handle:
        """Start those of `order.indices` that were not started for this attempt yet; adopt what exists.

        Raises LaunchRefused (bad size: never), LaunchFailed (over quota, no answer: not now) or Barred, as a look then
        does too.
        """
        ...

    async def observe(self, handles: Collection[Handle]) -> Mapping[Handle, Sighting]:
        """What the platform says of each. Raises CannotSee rather than guess; one request for all, or for none."""
        ...

    async def stop(self, handle: Handle, *, force: bool = False) -> None:
        """Ask the run to end (SIGTERM), or end it at once. A run that is gone already is a success."""
        ...

    async def list(self) -> Collection[Handle]:
        """Every run of this gateway's that is alive. Raises CannotSee."""
        ...

    async def kept(self) -> Collection[Handle]:
        """Every ended run of this gateway's that the platform still remembers. Raises CannotSee."""
        ...

    async def forget(self, handle: Handle) -> None:
        """An ended run is not needed any more: remove what the platform keeps of it. Raises nothing for one unknown."""
        ...

    async def close(self) -> None:
        """End what this gateway keeps for later; runs go on."""
        ...
