"""Runs attempts as job runs of IBM Cloud Code Engine.

A run is one job run with an array: index 0 is the head. Its name says which attempt it is; Code Engine has no labels.
A replacement is a job run of its own. What the API lists is the only thing that is believed, once a tick.
"""

import json
import math
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from gateway.launchers.base import (
    Barred,
    CannotSee,
    Capabilities,
    Handle,
    InstanceSighting,
    LaunchFailed,
    LaunchOrder,
    LaunchRefused,
    Phase,
    Price,
    Quota,
    Sighting,
)
from gateway.launchers.code_engine_api import Access, Api, Refusal
from gateway.launchers.code_engine_runs import attempt_of, instances, name_of_replacement, spec_of
from gateway.launchers.threads import Threads

PAYLOAD_BYTES = 8 * 1024
"""Of a job run's body at most: Code Engine takes 10 KiB."""
NAME_LENGTH = 63
MOST_SECONDS = 86_400
RECENT_SECONDS = 1.0
NEW_SECONDS = 60.0
"""How long a run that was just created may be missing in what the API lists."""
_GB = 1_000_000_000
SIZES: tuple[tuple[float, int], ...] = tuple(
    (cpus, int(memory * _GB))
    for cpus, sizes in (
        (0.125, (0.25, 0.5, 1)),
        (0.25, (0.5, 1, 2)),
        (0.5, (1, 2, 4)),
        (1, (2, 4, 8)),
        (2, (4, 8, 16)),
        (4, (8, 16, 32)),
        (6, (12, 24, 48)),
        (8, (16, 32)),
        (10, (20, 40)),
        (12, (24, 48)),
    )
    for memory in sizes
)
"""The combinations of vCPU and memory that Code Engine documents (2026-06)."""
PRICE = Price(
    vcpu_second=Decimal("0.00003431"),
    gib_second=Decimal("0.00000356") * 1024**3 / 10**9,
    currency="USD",
    source="IBM's list price of 2026-06 (for 10^9 bytes), without the free tier",
)
QUOTA = Quota(cpus=128, memory=512 * _GB, instances=250, runs=100)
_FORBIDDEN, _NOT_FOUND, _CONFLICT = 403, 404, 409
_MENDS = {
    _FORBIDDEN: "; the key needs the role Writer on the project",
    _NOT_FOUND: "; see FLAREGATE_CODE_ENGINE_JOB",
}


@dataclass(frozen=True, slots=True)
class CodeEngineSettings:
    """The project, and how to get into it."""

    project: str
    region: str
    gateway: str
    """Begins the names of this gateway's runs: at most 12 lower-case letters and digits."""
    job: str
    """The job whose runs these are: it has the image, its secret and its service account."""
    key: str = field(repr=False)
    """An API key of IAM that may write in the project."""
    url: str | None = None
    iam_url: str | None = None
    peer_tcp: bool = True
    """Whether instances of a project reach each other by TCP; where they do not, a job runs on its head alone."""
    lease: float = 600.0
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the image has; its label says so."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Further variables of each container."""
    price: Price | None = PRICE
    quota: Quota = QUOTA


class CodeEngineLauncher:
    """The launcher for one project."""

    def __init__(self, settings: CodeEngineSettings, clock: Callable[[], float] = time.monotonic) -> None:
        if not re.fullmatch(r"[a-z0-9]{1,12}", settings.gateway):
            raise LaunchRefused(f"the gateway's name {settings.gateway!r} is not 1 to 12 lower-case letters and digits")
        self._settings = settings
        self._clock = clock
        self._api = Api(Access(settings.project, settings.region, settings.key, settings.url, settings.iam_url), clock)
        self._threads = Threads("code-engine")
        self._noting = threading.Lock()
        self._created: dict[str, float] = {}
        """When a job run was created, or found to be there, by this process: it may not be listed yet."""
        self._names: Mapping[str, Collection[str]] = {}
        """The listed job runs of each attempt."""
        self._last: tuple[float, Mapping[str, Sequence[InstanceSighting]]] = (-math.inf, {})
        """When the API was last asked, and what it said."""
        quota = settings.quota
        self.capabilities = Capabilities(
            name="code_engine",
            peer_tcp=settings.peer_tcp,
            max_cpus=quota.cpus or math.inf,
            max_memory=quota.memory or 512 * _GB,
            gpus=0,
            lease=settings.lease,
            sizes=SIZES,
            max_seconds=MOST_SECONDS,
            linger=15,
            private_network=False,
            quota=quota,
            price=settings.price,
        )

    def environment(self) -> Mapping[str, str]:
        return self._settings.environment

    def handle(self, attempt: str) -> Handle:
        return Handle(attempt=attempt, name=f"{self._prefix}{attempt}")

    @property
    def _prefix(self) -> str:
        return f"fg-{self._settings.gateway}-"

    async def launch(self, order: LaunchOrder) -> Handle:
        handle = self.handle(order.attempt)
        await self._threads.run(self._launch, handle.name, order, range(order.cluster.instances))
        for index in order.replacements:
            await self._threads.run(self._launch, name_of_replacement(handle.name, index), order, (index,))
        return handle

    async def observe(self, handles: Collection[Handle]) -> Mapping[Handle, Sighting]:
        seen = await self._threads.run(self._seen)
        return {handle: Sighting(tuple(sorted(seen.get(handle.attempt, ()), key=_index))) for handle in handles}

    async def list(self) -> Collection[Handle]:
        seen = await self._threads.run(self._seen)
        return [self.handle(attempt) for attempt, run in seen.items() if not Sighting(tuple(run)).gone]

    async def kept(self) -> Collection[Handle]:
        now, seen = self._last  # whoever asks has just asked for the living ones
        if self._clock() - now > RECENT_SECONDS:
            seen = await self._threads.run(self._seen)
        return [self.handle(attempt) for attempt, run in seen.items() if Sighting(tuple(run)).gone]

    async def stop(self, handle: Handle, *, force: bool = False) -> None:
        """Delete its job runs: Code Engine sends SIGTERM, and SIGKILL after its own time, whatever is asked for."""
        await self._threads.run(self._delete, handle)

    async def forget(self, handle: Handle) -> None:
        await self._threads.run(self._delete, handle)

    async def close(self) -> None:
        self._threads.close()

    def _launch(self, name: str, order: LaunchOrder, indices: Collection[int]) -> None:
        body = self._body(name, order, indices)
        size = len(json.dumps(body).encode())
        if len(name) > NAME_LENGTH or size > PAYLOAD_BYTES:
            raise LaunchRefused(f"the job run {name!r} would be {size} bytes; at most {PAYLOAD_BYTES}, and 63 letters")
        try:
            self._api.create(body)
        except Refusal as exc:
            if exc.status != _CONFLICT:  # or it was created before, by this gateway or by the one before it
                self._unlaunched(name, exc)
        except Barred:
            raise
        except CannotSee as exc:
            raise LaunchFailed(f"no answer to the launch of {name}: {exc}") from exc
        with self._noting:
            self._created[name] = self._clock()

    def _unlaunched(self, name: str, exc: Refusal) -> None:
        """Say what a refusal means: not now, never, or that the gateway is not let into the project at all."""
        story = f"Code Engine did not take the job run {name}: {exc}"
        if exc.temporary:
            raise LaunchFailed(story) from exc
        if exc.status in _MENDS:
            try:
                self._seen()
            except Barred:
                raise
            except CannotSee as unseen:
                raise LaunchFailed(f"{story}; {unseen}") from exc
        raise LaunchRefused(f"{story}{_MENDS.get(exc.status, '')}") from exc

    def _body(self, name: str, order: LaunchOrder, indices: Collection[int]) -> dict[str, Any]:
        cluster = order.cluster
        if (cluster.cpus, cluster.memory) not in SIZES:
            raise LaunchRefused(_no_size(cluster.cpus, cluster.memory))
        variables = {
            "FLAREGATE_URL": order.gateway_url,
            "FLAREGATE_ATTEMPT": order.attempt,
            "FLAREGATE_BOOTSTRAP": order.bootstrap,
            **self._settings.variables,
        }
        memory = f"{cluster.memory // 10**6}M" if cluster.memory % _GB else f"{cluster.memory // _GB}G"
        return {
            "name": name,
            "job_name": self._settings.job,
            "run_mode": "task",
            "run_env_variables": [{"type": "literal", "name": key, "value": value} for key, value in variables.items()],
            "scale_array_spec": spec_of(indices),
            "scale_cpu_limit": f"{cluster.cpus:g}",
            "scale_memory_limit": memory,
            "scale_ephemeral_storage_limit": memory,  # Ray's object store lies there: /dev/shm has 64 MB
            "scale_max_execution_time": int(min(MOST_SECONDS, max(1, order.max_seconds))),
            "scale_retry_limit": 0,
        }

    def _seen(self) -> Mapping[str, Sequence[InstanceSighting]]:
        """Every container of this gateway's by its attempt. Raises Barred or CannotSee."""
        runs = {str(run["name"]): run for run in self._api.runs(self._settings.job)}
        own = {name: run for name, run in runs.items() if name.startswith(self._prefix)}
        found = defaultdict[str, Any](list)
        names = defaultdict[str, set[str]](set)
        with self._noting:
            now = self._clock()
            self._created = {name: at for name, at in self._created.items() if now - at < NEW_SECONDS}
            for name in {**own, **self._created}:
                attempt, index = attempt_of(name.removeprefix(self._prefix))
                names[attempt].add(name)
                new = (InstanceSighting(index or 0, Phase.PENDING),)
                found[attempt].extend(instances(own[name], index) if name in own else new)
            self._names = names
            self._last = (now, found)
        return found

    def _delete(self, handle: Handle) -> None:
        if self._last[0] == -math.inf:
            self._seen()  # a gateway that has just started does not know the replacements
        with self._noting:
            created = {
                name for name in self._created if attempt_of(name.removeprefix(self._prefix))[0] == handle.attempt
            }
            names = {handle.name, *created, *self._names.get(handle.attempt, ())}
        for name in sorted(names):
            self._api.delete(name)
            with self._noting:
                self._created.pop(name, None)


def _index(sighting: InstanceSighting) -> int:
    return sighting.index


def _no_size(cpus: float, memory: int) -> str:
    larger = [size for size in SIZES if size[0] >= cpus and size[1] >= memory]
    size = min(larger, default=max(SIZES))
    return (
        f"resources.cpus and resources.memory: {_told(cpus, memory)} is no size of Code Engine's; "
        f"the {'next' if larger else 'largest'} is {_told(*size)}"
    )


def _told(cpus: float, memory: int) -> str:
    return f"{cpus:g} vCPU with {memory / _GB:g} GB"
