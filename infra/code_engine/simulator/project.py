"""One project of the simulator: job runs, their instances, the quota that makes them wait, and the bill. No HTTP."""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from infra.code_engine.simulator.checks import Order
from infra.code_engine.simulator.faults import Faults
from infra.code_engine.simulator.instances import Running, Starts
from infra.code_engine.simulator.limits import KEPT_SECONDS, Quota

log = logging.getLogger(__name__)
GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL when a run is deleted."""


@dataclass
class Pace:
    """Seconds that the platform takes."""

    pull: float = 0.0
    """For the image, billed."""
    schedule: float = 0.0
    """Before that, not billed."""
    visible: float = 0.0
    """Until a new run is listed, and a deleted one no longer is."""


@dataclass
class Instance:
    """One index of a run."""

    index: int
    status: str = "pending"
    placed: float | None = None
    """When the image began to be pulled: the bill counts from here."""
    started: float | None = None
    finished: float | None = None
    retries: int = 0
    failure: str | None = None
    running: Running | None = None
    terminated: float | None = None
    """When it was asked to end."""
    forced: bool = False
    """Whether it was made to end by the platform: as a fault, or when the time to end by itself had passed."""

    @property
    def over(self) -> bool:
        return self.status in ("succeeded", "failed")


@dataclass
class Run:
    """A job run."""

    order: Order
    id: str
    created: float
    instances: dict[int, Instance]
    deleted: float | None = None

    @property
    def name(self) -> str:
        return self.order.name

    @property
    def over(self) -> bool:
        return all(one.over for one in self.instances.values())

    @property
    def status(self) -> str:
        words = [one.status for one in self.instances.values()]
        if "failed" in words:
            return "failed"
        if all(word == "succeeded" for word in words):
            return "completed"
        return "running" if "running" in words else "pending"


@dataclass
class Billed:
    """What the project has used."""

    vcpu_seconds: float = 0.0
    gb_seconds: float = 0.0
    runs: dict[str, float] = field(default_factory=dict)
    """vCPU-seconds by the run's name."""


class Clock:
    """The time, and how to put it forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class OverQuota(Exception):
    """The project's limit is reached."""


class Project:
    """Runs and quota. One thread moves what is there, alone; every method may be called from any other."""

    def __init__(
        self,
        starts: Starts,
        quota: Quota,
        pace: Pace,
        variables: Mapping[str, str],
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._starts = starts
        self.quota = quota
        self.pace = pace
        self._variables = variables
        self.now = clock or Clock()
        self._runs: dict[str, Run] = {}
        self._lock = threading.Lock()
        """Of the list of runs. Nothing is started, looked at or ended under it."""
        self._numbers = itertools.count(1)
        self.billed = Billed()
        self.faults = Faults()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="project", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End every instance."""
        self._ending.set()
        self._thread.join()
        running = [one.running for _, one in self.living() if one.running is not None]
        for one in running:
            one.end(force=True)
        while any(one.ended() is None for one in running):
            time.sleep(0.01)
        for one in running:
            one.end(force=True)
        self._starts.close()

    def create(self, order: Order) -> Run | None:
        """A new run; None where its name is taken. Raises OverQuota."""
        with self._lock:
            if order.name in self._runs:
                return None
            if len(self._runs) >= self.quota.runs:
                raise OverQuota(f"the project has {len(self._runs)} job runs, which is its limit; delete finished ones")
            number = next(self._numbers)
            instances = {index: Instance(index) for index in order.indices}
            run = Run(order, f"00000000-0000-0000-0000-{number:012d}", self.now(), instances)
            self._runs[order.name] = run
            return run

    def visible(self) -> list[Run]:
        """What a list shows now."""
        now, late = self.now(), self.pace.visible
        return [
            run
            for run in self._all()
            if now - run.created >= late and (run.deleted is None or now - run.deleted < late)
        ]

    def get(self, name: str) -> Run | None:
        """A run that is not deleted."""
        with self._lock:
            run = self._runs.get(name)
        return None if run is None or run.deleted is not None else run

    def delete(self, name: str) -> bool:
        """Ask a run to end, and forget it when it has."""
        run = self.get(name)
        if run is None:
            return False
        run.deleted = self.now()
        return True

    def living(self) -> list[tuple[Run, Instance]]:
        """Instances that are billed now."""
        return [
            (run, one)
            for run in self._all()
            for one in run.instances.values()
            if one.placed is not None and not one.over
        ]

    def _all(self) -> list[Run]:
        with self._lock:
            return list(self._runs.values())

    def _work(self) -> None:
        while not self._ending.wait(0.02):
            for run in self._all():
                try:
                    self._advance(run)
                except Exception:  # of Podman, say; without this thread no run would ever go on
                    log.exception("%s could not be moved", run.name)

    def _advance(self, run: Run) -> None:
        now = self.now()
        for one in run.instances.values():
            if run.deleted is not None and not one.over:
                self._terminate(run, one, now, "Deleted")
            elif one.status == "pending":
                self._begin(run, one, now)
            if one.status == "running":
                self._look(run, one, now)
        if run.over and self._forgotten(run, now):
            with self._lock:
                del self._runs[run.name]

    def _forgotten(self, run: Run, now: float) -> bool:
        """Whether a finished run is shown no more: soon after it was deleted, or a week after its end."""
        if run.deleted is not None:
            return now - run.deleted >= self.pace.visible
        return now - max(one.finished or 0.0 for one in run.instances.values()) >= KEPT_SECONDS

    def _begin(self, run: Run, one: Instance, now: float) -> None:
        if one.placed is None:
            wait = self.pace.schedule + self.faults.late.get(one.index, 0.0)
            if now - run.created < wait or "never" in self.faults.instances or not self._room(run):
                return
            one.placed = now
        if "no_image" in self.faults.instances:
            one.failure = "ImagePullBackOff"
            return
        if now - one.placed < self.pace.pull:
            return
        one.failure = None
        self._start(run, one, now)

    def _room(self, run: Run) -> bool:
        """Over quota is queued, not refused."""
        living = [other.order.size for other, _ in self.living()]
        cpus, memory = run.order.size
        return (
            len(living) < self.quota.instances
            and sum(size[0] for size in living) + cpus <= self.quota.cpus
            and sum(size[1] for size in living) + memory <= self.quota.memory
        )

    def _start(self, run: Run, one: Instance, now: float) -> None:
        """The platform's own variables go before those of users."""
        order = run.order
        own = {
            "JOB_INDEX": str(one.index),
            "JOB_ARRAY_SIZE": str(order.body.get("scale_array_size_variable_override", len(run.instances))),
            "JOB_INDEX_RETRY_COUNT": str(one.retries),
            "JOB_MODE": str(order.body["run_mode"]),
            "CE_JOB": str(order.body.get("job_name", "")),
            "CE_JOBRUN": run.name,
            **({} if order.retries is None else {"JOB_RETRY_LIMIT": str(order.retries)}),
        }
        name = f"{run.name}-{one.index}-{one.retries}"
        command = ["false"] if "die" in self.faults.instances else order.command
        try:
            one.running = self._starts.start(name, {**order.environment, **self._variables, **own}, command, order.size)
        except OSError:
            log.exception("%s did not start", name)
            self._over(run, one, now, "failed", "ContainerCannotRun")
            return
        one.started = one.started or now
        one.status = "running"

    def _look(self, run: Run, one: Instance, now: float) -> None:
        if one.running is None:
            return
        ending = one.running.ended()
        if ending is None:
            self._hold(run, one, now, one.running)
            return
        one.running.end(force=True)  # what is kept of it
        restarted, one.forced = one.forced and one.terminated is None, False
        code = ending.code if ending.code >= 0 else 128 - ending.code
        if code and one.terminated is None:
            one.failure = "OOMKilled" if ending.starved else f"ContainerExitedCode{code}"
        if code == 0:
            self._over(run, one, now, "succeeded", one.failure)
        elif restarted or (one.terminated is None and (run.order.retries is None or one.retries < run.order.retries)):
            one.retries += 1
            self._start(run, one, now)
        else:
            self._over(run, one, now, "failed", one.failure)

    def _hold(self, run: Run, one: Instance, now: float, running: Running) -> None:
        """What the platform does to an instance that runs: it may have no more time, or be started a second time."""
        seconds = run.order.seconds
        if seconds is not None and one.started is not None and now - one.started > seconds:
            self._terminate(run, one, now, "DeadlineExceeded")
        elif "restart" in self.faults.instances:
            self.faults.instances.discard("restart")
            one.forced = True
            running.end(force=True)

    def _terminate(self, run: Run, one: Instance, now: float, why: str) -> None:
        if one.running is None:
            self._over(run, one, now, "failed", why)
            return
        if one.terminated is None:
            one.terminated, one.failure = now, why
            one.running.end(force=False)
        elif now - one.terminated > GRACE and not one.forced:
            one.forced = True
            one.running.end(force=True)
        if one.running.ended() is not None:
            one.running.end(force=True)
            self._over(run, one, now, "failed", why)

    def _over(self, run: Run, one: Instance, now: float, status: str, failure: str | None) -> None:
        if one.placed is not None:
            seconds, (cpus, memory) = now - one.placed, run.order.size
            self.billed.vcpu_seconds += seconds * cpus
            self.billed.gb_seconds += seconds * memory / 1e9
            self.billed.runs[run.name] = self.billed.runs.get(run.name, 0.0) + seconds * cpus
        one.finished, one.failure = now, failure
        one.status = status
