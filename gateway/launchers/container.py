"""Runs attempts as containers of a Docker Engine API, Docker's or Podman's. The one module that imports docker.

Each run has a network of its own, on which its containers reach each other and the gateway, and nothing else of other
runs. A container has no privileges, a read-only root, and limits of CPU, memory and processes.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from requests.exceptions import RequestException

from gateway.launchers.base import (
    NO_QUOTA,
    SHM_SHARE,
    CannotSee,
    Capabilities,
    Handle,
    ImageRefused,
    InstanceSighting,
    LaunchFailed,
    LaunchOrder,
    LaunchRefused,
    Phase,
    Price,
    Quota,
    Sighting,
    Trouble,
)

GATEWAY, ATTEMPT, INDEX = "io.flaregate.gateway", "io.flaregate.attempt", "io.flaregate.index"
ENVIRONMENT = "io.flaregate.environment"
"""The label of a worker's image that says what is in it."""
_PIDS = 4096
_CREATED = "created"
_RUNNING = frozenset({"running", "paused", "restarting", "removing", "stopping"})
_ENDED = frozenset({"exited", "dead", "stopped"})
_MAKING, _LOOK = 20.0, 0.1
"""Seconds that another launch may take to make a container whose name it has taken, and between two looks."""
_KILLED, _SIGNALLED = 137, 128
_CONFLICT = 409
_NOT_RUNNING = ("not running", "can only kill running")
"""Of Docker, and of Podman, about a container that has ended just now."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ContainerSettings:
    """Where containers run, and what they are made of."""

    socket: str
    """`unix:///run/docker.sock`, `tcp://…`."""
    image: str
    gateway: str
    """Which gateway's containers these are: another one on the same machine has another name."""
    lease: float = 60.0
    connect: tuple[str, ...] = ()
    """Containers that join the network of each run: the gateway's own, and the store's, where these are containers."""
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Further names in the containers: `host.docker.internal` to `host-gateway`, say."""
    command: tuple[str, ...] | None = None
    """Instead of the image's own."""
    ca_bundle: Path | None = None
    """A file of certificates, on the machine of the containers, by which they know the gateway and the store."""
    quota: Quota = NO_QUOTA
    price: Price | None = None


class ContainerLauncher:
    """The launcher for one machine with Docker or Podman."""

    def __init__(self, settings: ContainerSettings) -> None:
        """Raises LaunchRefused if there is no such image, CannotSee if nothing answers at the socket."""
        self._settings = settings
        try:
            self._docker = docker.DockerClient(base_url=settings.socket, timeout=60)
            machine = self._docker.info()
            labels = self._docker.images.get(settings.image).labels or {}
        except ImageNotFound as exc:
            raise LaunchRefused(f"there is no image {settings.image!r} at {settings.socket}; pull or build it") from exc
        except (DockerException, RequestException) as exc:
            raise CannotSee(f"nothing answers at {settings.socket}: {exc}") from exc
        self._environment: dict[str, str] = json.loads(labels.get(ENVIRONMENT) or "{}")
        self._ends: dict[str, InstanceSighting] = {}
        """What does not change any more, by the container's id; the list of containers has no times."""
        self._starts: dict[str, datetime] = {}
        self.capabilities = Capabilities(
            name="container",
            peer_tcp=True,
            max_cpus=float(machine["NCPU"]),
            max_memory=int(machine["MemTotal"]),
            gpus=0,
            lease=settings.lease,
            quota=settings.quota,
            price=settings.price,
        )

    def environment(self) -> Mapping[str, str]:
        """What the image's label says."""
        return self._environment

    def handle(self, attempt: str) -> Handle:
        return Handle(attempt=attempt, name=f"flaregate-{self._settings.gateway}-{attempt}")

    async def launch(self, order: LaunchOrder) -> Handle:
        if order.cluster.gpus:
            raise LaunchRefused("the container launcher has no GPUs")
        await asyncio.to_thread(self._launch, order)
        return self.handle(order.attempt)

    async def observe(self, handles: Collection[Handle]) -> Mapping[Handle, Sighting]:
        seen = await asyncio.to_thread(self._seen)
        return {handle: Sighting(tuple(seen.get(handle.attempt, ()))) for handle in handles}

    async def list(self) -> Collection[Handle]:
        seen = await asyncio.to_thread(self._seen)
        return [self.handle(attempt) for attempt, run in sorted(seen.items()) if not Sighting(tuple(run)).gone]

    async def kept(self) -> Collection[Handle]:
        seen = await asyncio.to_thread(self._seen)
        return [self.handle(attempt) for attempt, run in sorted(seen.items()) if Sighting(tuple(run)).gone]

    async def stop(self, handle: Handle, *, force: bool = False) -> None:
        await asyncio.to_thread(self._stop, handle, "SIGKILL" if force else "SIGTERM")

    async def forget(self, handle: Handle) -> None:
        await asyncio.to_thread(self._forget, handle)

    async def close(self) -> None:
        await asyncio.to_thread(self._docker.close)

    def _launch(self, order: LaunchOrder) -> None:
        handle = self.handle(order.attempt)
        try:
            known = {int(one.labels[INDEX]) for one in self._of_run(handle) if one.status != _CREATED}
            if not known:
                self._make_network(handle)
            for index in order.indices:
                if index not in known:
                    self._start(order, handle, index)
        except ImageNotFound as exc:
            raise ImageRefused(f"there is no image {self._settings.image!r} any more: {_story(exc)}") from exc
        except (DockerException, RequestException) as exc:
            raise LaunchFailed(f"the container engine did not start a container: {_story(exc)}") from exc

    def _make_network(self, handle: Handle) -> None:
        if not self._docker.networks.list(names=[f"^{handle.name}$"]):
            try:
                self._docker.networks.create(handle.name, driver="bridge", labels=self._labels(handle.attempt))
            except APIError as exc:
                if not _taken(exc):
                    raise
        network = self._docker.networks.get(handle.name)
        for name in self._settings.connect:
            try:
                network.connect(name)
            except APIError as exc:
                if not _taken(exc):
                    raise

    def _start(self, order: LaunchOrder, handle: Handle, index: int) -> None:
        """Create and start one; a name that is taken is the same container, created before."""
        name, settings, cluster = f"{handle.name}-{index}", self._settings, order.cluster
        certificates = {}
        environment = {
            "FLAREGATE_URL": order.gateway_url,
            "FLAREGATE_ATTEMPT": order.attempt,
            "FLAREGATE_INDEX": str(index),
            "FLAREGATE_BOOTSTRAP": order.bootstrap,
            "HOME": "/tmp",  # noqa: S108 - a tmpfs of the container's own
        }
        if settings.ca_bundle is not None:
            certificates = {str(settings.ca_bundle): {"bind": "/etc/flaregate/ca.pem", "mode": "ro"}}
            environment["SSL_CERT_FILE"] = "/etc/flaregate/ca.pem"
        options: dict[str, Any] = {
            "entrypoint": list(settings.command) if settings.command else None,
            "environment": environment,
            "labels": self._labels(order.attempt) | {INDEX: str(index)},
            "network": handle.name,
            "hostname": f"{order.attempt}-{index}"[:63],
            "extra_hosts": dict(settings.hosts),
            "nano_cpus": int(cluster.cpus * 1e9),
            "mem_limit": cluster.memory,
            "memswap_limit": cluster.memory,
            "shm_size": int(cluster.memory * SHM_SHARE),
            "pids_limit": _PIDS,
            "read_only": True,
            "tmpfs": {"/tmp": "rw,exec,mode=1777"},  # noqa: S108
            "volumes": certificates,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "init": True,  # a first process gets no signal before it says what to do then; this one passes it on
            "detach": True,
        }
        container = self._made(name, options)
        if container.status == _CREATED:
            try:
                container.start()
            except APIError:
                container.reload()
                if container.status == _CREATED:
                    raise  # and if not, it has been started meanwhile: Podman calls that an improper state

    def _made(self, name: str, options: Mapping[str, Any]) -> Any:
        """The container of this name. Podman takes a name some time before it shows what is being made under it."""
        patient = monotonic() + _MAKING
        while True:
            try:
                return self._docker.containers.create(self._settings.image, name=name, **options)
            except APIError as exc:
                if not _taken(exc):
                    raise
            try:
                return self._docker.containers.get(name)
            except NotFound:
                if monotonic() > patient:
                    raise
                sleep(_LOOK)

    def _labels(self, attempt: str) -> dict[str, str]:
        return {GATEWAY: self._settings.gateway, ATTEMPT: attempt}

    def _of_run(self, handle: Handle) -> Sequence[Any]:
        labels = [f"{name}={value}" for name, value in self._labels(handle.attempt).items()]
        found: Sequence[Any] = self._docker.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
        return found

    def _seen(self) -> Mapping[str, Sequence[InstanceSighting]]:
        """Every container of this gateway's by its attempt. Raises CannotSee."""
        found = defaultdict[str, Any](lambda: [])  # noqa: PIE807
        try:
            asked = {"label": [f"{GATEWAY}={self._settings.gateway}"]}
            listed = self._docker.api.containers(all=True, filters=asked)
            for one in listed:
                found[one["Labels"][ATTEMPT]].append(self._sighting(one))
        except (DockerException, RequestException) as exc:
            raise CannotSee(f"the container engine does not answer: {_story(exc)}") from exc
        ids = {one["Id"] for one in listed}
        for known in (self._ends, self._starts):
            for gone in known.keys() - ids:
                del known[gone]
        return {attempt: sorted(run, key=lambda one: one.index) for attempt, run in found.items()}

    def _sighting(self, listed: Mapping[str, Any]) -> InstanceSighting:
        name, state, index = listed["Id"], listed["State"].lower(), int(listed["Labels"][INDEX])
        if state in _RUNNING and name in self._starts:
            return InstanceSighting(index, Phase.RUNNING, self._starts[name])
        if name in self._ends:
            return self._ends[name]
        try:
            told = self._docker.api.inspect_container(name)["State"]
        except NotFound:
            return InstanceSighting(index, Phase.ENDED)
        started = _time(told.get("StartedAt"))
        if told["Status"] in _ENDED:
            self._ends[name] = _ended(index, started, told)
            return self._ends[name]
        if told["Status"] not in _RUNNING or started is None:
            return InstanceSighting(index, Phase.PENDING)
        self._starts[name] = started
        return InstanceSighting(index, Phase.RUNNING, started)

    def _stop(self, handle: Handle, signal: str) -> None:
        def end(container: Any) -> None:
            if container.status == _CREATED:  # it never ran, and will not
                container.remove(force=True)
            else:
                container.kill(signal)

        self._each(self._living(handle), end)

    def _living(self, handle: Handle) -> Iterable[Any]:
        try:
            return [one for one in self._of_run(handle) if one.status not in _ENDED]
        except (DockerException, RequestException) as exc:
            raise CannotSee(f"the container engine does not answer: {_story(exc)}") from exc

    def _forget(self, handle: Handle) -> None:
        try:
            self._each(self._of_run(handle), lambda one: one.remove(force=True))
            for network in self._docker.networks.list(names=[f"^{handle.name}$"]):
                self._each(self._settings.connect, lambda name, one=network: one.disconnect(name, force=True))  # type: ignore[misc]
                self._each([network], lambda one: one.remove())
        except (DockerException, RequestException) as exc:
            raise CannotSee(f"the container engine does not answer: {_story(exc)}") from exc

    @staticmethod
    def _each(things: Iterable[T], act: Callable[[T], None]) -> None:
        """Act on each; one that is gone, or has ended meanwhile, is a success."""
        for thing in things:
            try:
                act(thing)
            except NotFound:
                continue
            except APIError as exc:
                if exc.status_code != _CONFLICT and not any(words in _story(exc) for words in _NOT_RUNNING):
                    raise CannotSee(_story(exc)) from exc


def _ended(index: int, started: datetime | None, told: Mapping[str, Any]) -> InstanceSighting:
    code = int(told.get("ExitCode", 0))
    trouble = Trouble.OUT_OF_MEMORY if told.get("OOMKilled") else None
    ended = _time(told.get("FinishedAt"))
    signalled = _SIGNALLED - code if code > _SIGNALLED else code
    if started and ended:
        started = min(started, ended)  # Podman has the end by a coarser clock than the start
    return InstanceSighting(index, Phase.ENDED, started or ended, ended, signalled, trouble, told.get("Error") or "")


def _time(text: str | None) -> datetime | None:
    """None for the year 1, which stands for never."""
    if not text or text.startswith("0001"):
        return None
    whole, dot, rest = text.partition(".")
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return datetime.fromisoformat(whole + dot + rest[: min(digits, 6)] + rest[digits:])


def _taken(exc: APIError) -> bool:
    """Whether it is there already. Podman answers 500 where Docker answers 409."""
    return exc.status_code == _CONFLICT or "already" in _story(exc)


def _story(exc: Exception) -> str:
    return str(getattr(exc, "explanation", None) or exc)
