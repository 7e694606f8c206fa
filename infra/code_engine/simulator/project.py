"""One project of the simulator: job runs, their instances, the quota that makes them wait, and the bill. No HTTP."""

import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from infra.code_engine.simulator.instances import Running, Starts
from infra.code_engine.simulator.limits import Quota, spec_of

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

    @property
    def over(self) -> bool:
        return self.status in ("succeeded", "failed")


@dataclass
class Run:
    """A job run."""

    name: str
    id: str
    body: Mapping[str, Any]
    cpus: float
    memory: int
    retries: int
    seconds: float
    environment: Mapping[str, str]
    command: Sequence[str]
    created: float
    instances: dict[int, Instance]
    deleted: float | None = None

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


class Project:
    """Runs and quota. A thread moves what is there; every method may be called from any other."""

    def __init__(
        self,
        starts: Starts,
        quota: Quota,
        pace: Pace,
        variables: Mapping[str, str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._starts = starts
        self.quota = quota
        self.pace = pace
        self._variables = variables
        self._now = clock
        self._runs: dict[str, Run] = {}
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self.billed = Billed()
        self.broken: set[str] = set()
        """Of new instances: `never` start, `die` at once, `restart` once."""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="project", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End every instance."""
        self._ending.set()
        self._thread.join()
        for running in [one.running for _, one in self.living() if one.running is not None]:
            running.end(force=True)
            while running.ended() is None:
                time.sleep(0.01)

    def create(self, name: str, body: Mapping[str, Any], **made: Any) -> Run | None:
        """A new run; None where its name is taken. Raises OverQuota."""
        with self._lock:
            if name in self._runs:
                return None
            if len(self._runs) >= self.quota.runs:
                raise OverQuota(f"the project has {len(self._runs)} job runs, which is its limit; delete finished ones")
            indices: Sequence[int] = made.pop("indices")
            number = next(self._numbers)
            run = Run(
                name=name,
                id=f"00000000-0000-0000-0000-{number:012d}",
                body=body,
                created=self._now(),
                instances={index: Instance(index) for index in indices},
                **made,
            )
            self._runs[name] = run
            return run

    def visible(self) -> list[Run]:
        """What a list shows now."""
        now = self._now()
        with self._lock:
            return [
                run
                for run in self._runs.values()
                if now - run.created >= self.pace.visible
                and (run.deleted is None or now - run.deleted < self.pace.visible)
            ]

    def get(self, name: str) -> Run | None:
        """A run that is not deleted."""
        with self._lock:
            run = self._runs.get(name)
            return None if run is None or run.deleted is not None else run

    def delete(self, name: str) -> bool:
        """Ask a run to end, and forget it when it has."""
        with self._lock:
            run = self.get(name)
            if run is None:
                return False
            run.deleted = self._now()
            return True

    def living(self) -> list[tuple[Run, Instance]]:
        """Instances that are billed now."""
        with self._lock:
            return [
                (run, one)
                for run in self._runs.values()
                for one in run.instances.values()
                if one.placed is not None and not one.over
            ]

    def _work(self) -> None:
        while not self._ending.wait(0.02):
            with self._lock:
                for run in list(self._runs.values()):
                    self._advance(run)

    def _advance(self, run: Run) -> None:
        now = self._now()
        for one in run.instances.values():
            if run.deleted is not None and not one.over:
                self._terminate(run, one, now, "Deleted")
            elif one.status == "pending":
                self._begin(run, one, now)
            if one.status == "running":
                self._look(run, one, now)
        ended = all(one.over for one in run.instances.values())
        if run.deleted is not None and ended and now - run.deleted >= self.pace.visible:
            del self._runs[run.name]

    def _begin(self, run: Run, one: Instance, now: float) -> None:
        if one.placed is None:
            if now - run.created < self.pace.schedule or not self._room(run) or "never" in self.broken:
                return
            one.placed = now
        if now - one.placed < self.pace.pull:
            return
        one.started, one.status = now, "running"
        self._start(run, one)

    def _room(self, run: Run) -> bool:
        """Over quota is queued, not refused."""
        living = self.living()
        return (
            len(living) < self.quota.instances
            and sum(other.cpus for other, _ in living) + run.cpus <= self.quota.cpus
            and sum(other.memory for other, _ in living) + run.memory <= self.quota.memory
        )

    def _start(self, run: Run, one: Instance) -> None:
        own = {
            "JOB_INDEX": str(one.index),
            "JOB_ARRAY_SIZE": str(len(run.instances)),
            "JOB_INDEX_RETRY_COUNT": str(one.retries),
            "JOB_RETRY_LIMIT": str(run.retries),
            "JOB_MODE": "task",
            "CE_JOB": str(run.body.get("job_name", "")),
            "CE_JOBRUN": run.name,
        }
        name = f"{run.name}-{one.index}-{one.retries}"
        command = ["false"] if "die" in self.broken else run.command
        one.running = self._starts.start(
            name, {**self._variables, **own, **run.environment}, command, (run.cpus, run.memory)
        )

    def _look(self, run: Run, one: Instance, now: float) -> None:
        code = one.running.ended() if one.running is not None else None
        if code is None:
            if one.started is not None and now - one.started > run.seconds:
                self._terminate(run, one, now, "DeadlineExceeded")
            return
        if one.running is not None:
            one.running.end(force=True)
        if code == 0:
            self._over(run, one, now, "succeeded", None)
        elif one.retries < run.retries or "restart" in self.broken:
            self.broken.discard("restart")
            one.retries += 1
            self._start(run, one)
        else:
            reason = "OOMKilled" if code in (-9, 137) and one.terminated is None else f"ContainerExitedCode{abs(code)}"
            self._over(run, one, now, "failed", one.failure or reason)

    def _terminate(self, run: Run, one: Instance, now: float, why: str) -> None:
        if one.running is None:
            self._over(run, one, now, "failed", why)
            return
        if one.terminated is None:
            one.terminated, one.failure = now, why
            one.running.end(force=False)
        elif now - one.terminated > GRACE:
            one.running.end(force=True)
        if one.running.ended() is not None:
            one.running.end(force=True)
            self._over(run, one, now, "failed", why)

    def _over(self, run: Run, one: Instance, now: float, status: str, failure: str | None) -> None:
        one.status, one.finished, one.failure = status, now, failure
        if one.placed is not None:
            seconds = now - one.placed
            self.billed.vcpu_seconds += seconds * run.cpus
            self.billed.gb_seconds += seconds * run.memory / 1e9
            self.billed.runs[run.name] = self.billed.runs.get(run.name, 0.0) + seconds * run.cpus


class OverQuota(Exception):
    """The project's limit is reached."""


def told(run: Run) -> dict[str, Any]:
    """A run as the API shows it."""
    by_status = {word: [one.index for one in run.instances.values() if one.status == word] for word in _WORDS}
    details: dict[str, Any] = {"requested": len(run.instances), "indices_details": _details(run)}
    for word, indices in by_status.items():
        details[word] = len(indices)
        if indices:
            details[f"{word}_indices"] = spec_of(indices)
    starts = [one.started for one in run.instances.values() if one.started is not None]
    if starts:
        details["start_time"] = _stamp(min(starts))
    ends = [one.finished for one in run.instances.values() if one.finished is not None]
    if len(ends) == len(run.instances):
        details["completion_time"] = _stamp(max(ends))
    defaults = {"run_arguments": [], "run_commands": [], "run_volume_mounts": [], "run_mode": "task"}
    own = {"name": run.name, "id": run.id, "created_at": _stamp(run.created), "resource_type": "job_run_v2"}
    return {
        **defaults,
        "computed_env_variables": [],
        **run.body,
        **own,
        "status": run.status,
        "status_details": details,
    }


_WORDS = ("pending", "running", "succeeded", "failed")


def _details(run: Run) -> dict[str, Any]:
    return {str(one.index): _detail(one) for one in run.instances.values()}


def _detail(one: Instance) -> dict[str, Any]:
    told: dict[str, Any] = {"status": one.status, "retries": one.retries}
    if one.placed is not None:
        told["started_at"] = _stamp(one.placed)
    if one.finished is not None:
        told["finished_at"] = _stamp(one.finished)
    if one.failure is not None:
        told["last_failure_reason"] = one.failure
    return told


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
