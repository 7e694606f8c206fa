"""Runs attempts as real processes of this machine: `python -m worker_image` for each container.

Knows of worker_image its name and its environment variables, nothing else. A run's folder, `runs/<attempt>`, holds what
must outlive the gateway: how many containers there are, each one's process and end, and what it printed.
"""

import asyncio
import math
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import psutil

from flaregate_wire.environment import DISTRIBUTIONS
from gateway.launchers.base import (
    CannotSee,
    Capabilities,
    Handle,
    InstanceSighting,
    LaunchFailed,
    LaunchOrder,
    LaunchRefused,
    Phase,
    Sighting,
)
from gateway.launchers.local_packages import folder_in
from gateway.launchers.local_runs import Instance, Marker, Run, marked, members
from gateway.launchers.local_warm import WarmHeads, may_stay

_WORKER = (sys.executable, "-m", "worker_image")
_INHERITED = frozenset(
    {"PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH"}
)
_INHERITED_PREFIXES = ("LC_", "SSL_", "XDG_CACHE_", "UV_", "OPENBLAS_", "MKL_", "BLIS_", "NPY_")
"""The last four choose the kernels of linear algebra: tasks compute the numbers that the caller's own process would."""
_KEPT_SECONDS = 24 * 3600.0
"""How long the folder of an ended run is kept for who wants to read what it printed."""
_MOST_PARKED = 3
"""Heads that wait for another job at once; of more, those that have waited longest are ended."""
_SWEEPS = 50
_SWEEP_PAUSE = 0.02

T = TypeVar("T")


@lru_cache(maxsize=1)
def _versions(_: tuple[int, ...]) -> Mapping[str, str]:
    """Of what is installed, read again when a folder of packages has changed: it takes 5 ms, for each submission."""
    installed = (name for name in DISTRIBUTIONS if any(metadata.Distribution.discover(name=name)))
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in installed}}


class LocalLauncher:
    """The launcher of the embedded gateway. One instance serves a home at a time."""

    def __init__(
        self,
        home: Path,
        inherited: Mapping[str, str],
        *,
        drops: Path | None = None,
        command: Sequence[str] = _WORKER,
        lease: float = 60.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Make it.

        Args:
            home: Of the gateway; runs have their folders in it.
            inherited: The gateway's own environment, of which containers get the little that they need.
            drops: Where the gateway takes files of containers, if its store is a folder of this machine.
            command: What a container runs.
            lease: Seconds that a container lives without an answer of a gateway.
            clock: The time.
        """
        self._home = home.resolve()
        self._drops = None if drops is None else drops.resolve()
        self._command = tuple(command)
        self._clock = clock
        self._environment = {
            name: value
            for name, value in inherited.items()
            if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
        }
        self._children: set[int] = set()
        self._warm = WarmHeads(self._run)
        self._one_at_a_time = asyncio.Lock()
        self.capabilities = Capabilities(
            name="local",
            peer_tcp=True,
            max_cpus=float(psutil.cpu_count() or 1),
            max_memory=psutil.virtual_memory().total,
            gpus=0,
            lease=lease,
        )

    def environment(self) -> Mapping[str, str]:
        """Versions of this environment, in which the containers run too."""
        folders = [path for path in map(Path, sys.path) if path.is_dir()]
        return _versions(tuple(path.stat().st_mtime_ns for path in folders))

    def handle(self, attempt: str) -> Handle:
        return Handle(attempt=attempt, name=attempt)

    async def launch(self, order: LaunchOrder) -> Handle:
        """Start what has not been started for this attempt yet, by this gateway or by one before it."""
        if order.cluster.gpus:
            raise LaunchRefused("the local launcher has no GPUs")
        await self._in_thread(self._launch, order)
        return self.handle(order.attempt)

    async def observe(self, handles: Collection[Handle]) -> Mapping[Handle, Sighting]:
        """What is alive. The end of a container is told only when nothing that it started is left."""
        try:
            return await self._in_thread(lambda: {handle: self._sighting(handle) for handle in handles})
        except OSError as exc:
            raise CannotSee(str(exc)) from exc

    async def stop(self, handle: Handle, *, force: bool = False) -> None:
        """SIGTERM to each supervisor; with `force`, SIGKILL to it and to everything that it started."""
        await self._in_thread(self._stop, handle, force)

    async def list(self) -> Collection[Handle]:
        """Every attempt of this home of which a process is alive, whoever started it."""
        return await self._in_thread(self._list)

    async def kept(self) -> Collection[Handle]:
        """None: what runs have printed is cleared away after a day without being asked for it."""
        return ()

    async def forget(self, handle: Handle) -> None:
        """What it printed is kept for a day."""

    async def close(self) -> None:
        """End the heads that have no job; the others go on."""
        await self._in_thread(self._end_idle)

    async def _in_thread(self, work: Callable[..., T], *given: object) -> T:
        async with self._one_at_a_time:
            return await asyncio.to_thread(work, *given)

    def _run(self, attempt: str) -> Run:
        return Run(self._home / "runs" / attempt)

    def _marker(self, attempt: str, index: int) -> Marker:
        return Marker(home=str(self._home), attempt=attempt, index=index)

    def _temp(self, attempt: str, index: int) -> Path:
        """A container's folder for temporary files, found again by its name; short, for the sockets in it."""
        name = sha256(str(self._marker(attempt, index)).encode()).hexdigest()[:10]
        return Path(tempfile.gettempdir()) / f"fg-{name}"

    def _make_temp(self, attempt: str, index: int) -> Path:
        temp = self._temp(attempt, index)
        temp.mkdir(mode=0o700, exist_ok=True)
        if temp.stat().st_uid != os.getuid():
            raise PermissionError(f"{temp} belongs to somebody else")
        return temp

    def _launch(self, order: LaunchOrder) -> None:
        run = self._run(order.attempt)
        try:
            if not run.exists():
                self._forget_old_runs()
            run.intend(1 + max(order.indices))
            known = self._instances(order.attempt, run)
            for index in order.indices:
                if index in known:
                    continue
                if index != 0 or not self._warm.reuse(order, run, self._clock().timestamp()):
                    self._start_for(order, run, index)
        except OSError as exc:
            raise LaunchFailed(f"cannot start a process: {exc}") from exc

    def _start_for(self, order: LaunchOrder, run: Run, index: int) -> None:
        own = {
            "FLAREGATE_URL": order.gateway_url,
            "FLAREGATE_ATTEMPT": order.attempt,
            "FLAREGATE_INDEX": str(index),
            "FLAREGATE_BOOTSTRAP": order.bootstrap,
        }
        if may_stay(order):
            self._end_parked(_MOST_PARKED - 1)
        run.record(self._start(order.attempt, run, index, own, parks=may_stay(order), order=order))

    def spare(self, url: str, seconds: float) -> None:
        """Start a head before there is a job; the first one that comes within so many seconds has it at once.

        `url` says on which interface gateways of this machine listen; the job brings its own.
        """
        origin = f"spare-{secrets.token_hex(8)}"
        run = self._run(origin)
        run.intend(1)
        own = {
            "FLAREGATE_URL": url,
            "FLAREGATE_ATTEMPT": origin,
            "FLAREGATE_INDEX": "0",
            "FLAREGATE_SPARE": str(seconds),
        }
        instance = self._start(origin, run, 0, own, parks=True)
        run.record(replace(instance, ended=instance.since, exit_code=0, owner=""))

    def _start(
        self,
        attempt: str,
        run: Run,
        index: int,
        own: Mapping[str, str],
        *,
        parks: bool,
        order: LaunchOrder | None = None,
    ) -> Instance:
        """Start a container's first process; one that parks may be given further jobs."""
        environment = {
            **self._environment,
            **own,
            **({"FLAREGATE_PARK": str(run.parked)} if parks else {}),
            "FLAREGATE_RUN": str(self._marker(attempt, index)),
            "FLAREGATE_PACKAGES": str(folder_in(self._home)),
            **({} if self._drops is None else {"FLAREGATE_DROPS": str(self._drops)}),
            "TMPDIR": str(self._make_temp(attempt, index)),
        }
        try:
            child = self._spawn(run, index, environment, subprocess.PIPE if parks else subprocess.DEVNULL)
        except OSError:
            shutil.rmtree(environment["TMPDIR"], ignore_errors=True)
            raise
        if child.stdin is not None:
            self._warm.add(attempt, os.dup(child.stdin.fileno()), order)
            child.stdin.close()
        self._children.add(child.pid)
        child.returncode = 0  # it may outlive this object, which must neither warn of that nor take the exit code
        created = psutil.Process(child.pid).create_time()
        return Instance(index=index, pid=child.pid, created=created, since=self._clock().timestamp())

    def _spawn(
        self, run: Run, index: int, environment: Mapping[str, str], standard_input: int
    ) -> subprocess.Popen[bytes]:
        with run.output(index).open("ab") as output:
            return subprocess.Popen(  # noqa: S603 - our own program
                self._command,
                cwd=run.folder,
                env=environment,
                bufsize=0,
                stdin=standard_input,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _end_parked(self, kept: int = 0) -> None:
        """End heads that wait for another job, but for those that began last; clear up after those that have ended."""
        waiting = self._warm.waiting()
        unwanted = [origin for origin in waiting[: max(0, len(waiting) - kept)] if self._warm.unpark(origin)]
        self._end((*unwanted, *self._warm.ended()))

    def _end_idle(self) -> None:
        self._end_parked()
        self._end(self._warm.untaken())

    def _end(self, origins: Collection[str]) -> None:
        for origin in origins:
            head = self._warm.head(origin)
            if head is not None:
                self._sweep(origin, [head])
                self._exit_code(head.pid)
            self._warm.remove(origin)

    def _instances(self, attempt: str, run: Run) -> dict[int, Instance]:
        """What has been started. A gateway that was killed between start and record left a marker to find it by."""
        known, intended = run.instances(), run.intended()
        if len(known) < intended:
            for process, marker in members({self._marker(attempt, index) for index in range(intended)}):
                if marker.index not in known and process.pid == os.getsid(process.pid):
                    found = Instance(index=marker.index, pid=process.pid, created=process.create_time())
                    known[marker.index] = found
                    run.record(found)
        return known

    def _sighting(self, handle: Handle) -> Sighting:
        run = self._run(handle.attempt)
        instances = self._instances(handle.attempt, run) if run.exists() else {}
        return Sighting(tuple(self._look(handle.attempt, run, instances[index]) for index in sorted(instances)))

    def _look(self, attempt: str, run: Run, instance: Instance) -> InstanceSighting:
        instance = self._warm.note(attempt) or instance
        if instance.ended is None:
            if instance.process() is not None:
                return InstanceSighting(instance.index, Phase.RUNNING, started=instance.started)
            self._sweep(attempt, [instance])
            self._warm.remove(instance.origin or attempt)
            now = self._clock().timestamp()
            instance = replace(instance, ended=now, exit_code=self._exit_code(instance.pid))
            run.record(instance)
        ended = datetime.fromtimestamp(instance.ended or 0.0, UTC)
        return InstanceSighting(instance.index, Phase.ENDED, instance.started, ended, instance.exit_code)

    def _exit_code(self, pid: int) -> int | None:
        """The exit code of a child of this very process, once it has ended; the kernel tells it to nobody else."""
        if pid not in self._children:
            return None
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            return None
        self._children.remove(pid)
        return os.waitstatus_to_exitcode(status)

    def _stop(self, handle: Handle, force: bool) -> None:  # noqa: FBT001
        run = self._run(handle.attempt)
        instances = list(self._instances(handle.attempt, run).values()) if run.exists() else []
        instances = [one for one in instances if one.ended is None and self._warm.note(handle.attempt) is None]
        if force:
            self._sweep(handle.attempt, instances)
            return
        for instance in instances:
            process = instance.process()
            if process is not None:
                _signal(process, signal.SIGTERM)

    def _sweep(self, attempt: str, instances: Sequence[Instance]) -> None:
        """SIGKILL all that belongs to these containers, until nothing is left of them, temporary files neither."""
        markers = {self._marker(instance.origin or attempt, instance.index) for instance in instances}
        found = members(markers, instances)
        for _ in range(_SWEEPS):
            if not found:
                for instance in instances:
                    shutil.rmtree(self._temp(instance.origin or attempt, instance.index), ignore_errors=True)
                return
            for process, _marker in found:
                _signal(process, signal.SIGKILL)
            time.sleep(_SWEEP_PAUSE)
            found = members(markers, instances)
        raise CannotSee(f"processes of {attempt} do not end: {[process.pid for process, _ in found]}")

    def _list(self) -> Collection[Handle]:
        self._end_parked(_MOST_PARKED)
        home = str(self._home)
        origins = {marker.attempt for _, marker in marked() if marker is not None and marker.home == home}
        return [self.handle(attempt) for attempt in sorted(filter(None, map(self._warm.owner, origins)))]

    def _forget_old_runs(self) -> None:
        horizon = self._clock().timestamp() - _KEPT_SECONDS
        for folder in (self._home / "runs").glob("*"):
            instances = Run(folder).instances().values()
            alive = [instance for instance in instances if instance.process() is not None]
            ends = [instance.ended or math.inf for instance in instances] or [folder.stat().st_mtime]
            if max(ends) < horizon and not alive:
                for instance in instances:
                    shutil.rmtree(self._temp(folder.name, instance.index), ignore_errors=True)
                shutil.rmtree(folder, ignore_errors=True)


def _signal(process: psutil.Process, number: int) -> None:
    """Signal exactly this process: psutil refuses if the pid has passed to another one."""
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
