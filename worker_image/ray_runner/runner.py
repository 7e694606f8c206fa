"""RayRunner: one Ray task for each task. Ray retries nothing: the schedule knows what was lost and what killed itself.

Ray tells a process that ended (WorkerCrashedError) from a machine that did (NodeDiedError); its own retries treat
both alike, and would run code that kills its process again and again.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import ray
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, RayTaskError, WorkerCrashedError

from flaregate_wire.planning import Step
from flaregate_wire.states import Reason
from worker_image.engine.prepare import JobFailed, Summary
from worker_image.engine.runner import SaveFailed, StatesLost
from worker_image.engine.running import error_detail
from worker_image.engine.session import Context
from worker_image.engine.tasks import ALL_ROWS, Cut, Done, Key, Loss, Report, Task
from worker_image.ray_runner import remote
from worker_image.ray_runner.cluster import Connection

_ENDED = "the process that ran it was killed, or left by os._exit"


@dataclass(slots=True)
class _Running:
    """A task on its way, and what has come of it."""

    task: Task
    since: float
    stream: Any = None
    """Gives the references of a batch's parts; None where one reference has all reports."""
    reports: list[Report] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(slots=True)
class RayRunner:
    """Runs tasks on the machines of one Ray cluster, each on one CPU unless its node needs more."""

    connection: Connection
    min_workers: int = 0
    join_seconds: float = 60.0
    name: str = "RayRunner"
    _context: Any = None
    _job: list[Any] = field(default_factory=list)
    _running: dict[Any, _Running] = field(default_factory=dict)
    """By what is waited for: the reference to a task's reports, or the stream of a batch."""
    _parts: dict[Key, Any] = field(default_factory=dict)
    _states: dict[Key, Any] = field(default_factory=dict)
    _kept: dict[tuple[int, int], Any] = field(default_factory=dict)

    def slots(self) -> int:
        return self.connection.slots()

    def prepare(self, context: Context, files: Mapping[str, str]) -> Summary:
        for held in (self._running, self._parts, self._states, self._kept):
            held.clear()
        self._context = ray.put(context)
        load: Any = remote.load.options(scheduling_strategy=self.connection.on_head)
        data, summary = load.remote(self._context, files)
        self._job = [self._context, data]
        self.connection.wait_for_workers(self.min_workers, self.join_seconds)
        warm = remote.warm.options(scheduling_strategy="SPREAD")
        warming = [warm.remote() for _ in range(self.slots() - 1)]  # beside the loading, which has a process itself
        with _loading():
            given: Summary | JobFailed = ray.get(summary)
        if isinstance(given, JobFailed):
            raise given
        del warming
        return given

    def inherit(self, context: Context, data: Path) -> None:
        """Begin a job whose rows another runner has loaded, instead of `prepare`: nothing is drawn a second time.

        Args:
            context: The job.
            data: Its rows, as flaregate.payload.dump writes them, on the head; read when this returns.

        Raises:
            JobFailed: The rows cannot be read.
        """
        for held in (self._running, self._parts, self._states, self._kept):
            held.clear()
        self._context = ray.put(context)
        self._job = [self._context, self._read(data)]
        begin = remote.begin.options(scheduling_strategy="SPREAD")
        with _loading():
            ray.get([begin.remote(self._job) for _ in range(self.slots())])

    def submit(self, task: Task) -> None:
        inputs = [self._parts[key] for key in task.inputs]
        options = _options(task)
        running = _Running(task, monotonic())
        if task.steps:
            count = 2 + (len(task.steps) if task.keeps_state else 0)
            made = remote.steps.options(num_returns=count, **options).remote(self._job, task, *inputs)
            waited, self._parts[task.key], *states = made
            self._states |= {(step.digest, task.cut): state for step, state in zip(task.steps, states, strict=False)}
        elif task.keeps_state or (task.cut.fold == ALL_ROWS and len(task.members) == 1):
            leaf: Any = remote.leaf.options(**options)
            waited, kept = leaf.remote(self._job, task, *inputs)
            self._kept[task.number, 0] = kept
            if task.keeps_state:
                self._states[task.key] = kept
        else:
            waited = remote.leaves.options(num_returns="streaming", **options).remote(self._job, task, *inputs)
            running.stream = waited
        self._running[waited] = running

    def wait(self, timeout: float | None = None) -> Sequence[Done]:
        waiting = list(self._running)
        if not waiting:
            return []
        ready, _ = ray.wait(waiting, num_returns=1, timeout=timeout, fetch_local=False)
        more, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=False)
        found = (self._taken(waited) for waited in dict.fromkeys((*ready, *more)))
        return [done for done in found if done is not None]

    def _taken(self, waited: Any) -> Done | None:
        """What a task that has something to tell has told; None while there is more to come."""
        running = self._running[waited]
        try:
            ran: remote.Ran = ray.get(waited if running.stream is None else next(running.stream))
        except StopIteration:
            del self._running[waited]
            host = self.connection.host(self.connection.head)
            return Done(running.task, tuple(running.reports), running.seconds, host)
        except Exception as error:  # noqa: BLE001 - Ray's own, told apart; what is none of them is raised again
            del self._running[waited]
            return self._lost(running, error)
        running.reports.extend(ran.reports)
        running.seconds += ran.seconds
        self._kept |= {(running.task.number, index): reference for index, reference in ran.kept}
        if len(running.reports) < len(running.task.digests):
            return None
        del self._running[waited]
        return Done(running.task, tuple(running.reports), running.seconds, self.connection.host(ran.node))

    def _lost(self, running: _Running, error: Exception) -> Done:
        task, reports = running.task, tuple(running.reports)
        match error:
            case WorkerCrashedError() | OutOfMemoryError():
                message = f"out of memory: {error}" if isinstance(error, OutOfMemoryError) else _ENDED
                limit = None if task.needs is None else task.needs.timeout
                late = limit is not None and monotonic() - running.since >= limit
                return Done(task, reports, loss=Loss.TIMED_OUT if late else Loss.DIED, message=message)
            case NodeDiedError():
                return Done(task, reports, loss=Loss.NODE_LOST, message=str(error).partition(". ")[0])
            case ObjectLostError():
                return Done(task, reports, loss=Loss.INPUT_LOST, message=type(error).__name__)
            case RayTaskError():  # what it passes on cannot be pickled
                report = Report(error=error_detail(error.cause if isinstance(error.cause, Exception) else error))
                missing = (report,) * (len(task.digests) - len(reports))
                return Done(task, (*reports, *missing), host=self.connection.host(self.connection.head))
            case _:
                raise error

    def idle_workers(self) -> tuple[int, ...]:
        return self.connection.idle_workers()

    def release(self, keys: Collection[Key]) -> None:
        for key in keys:
            self._parts.pop(key, None)

    def save(self, steps: Sequence[Step], cut: Cut, path: Path) -> None:
        states = [self._states[step.digest, cut] for step in steps]
        problem: str | None = self._on_head(remote.save, self._context, list(steps), str(path), *states)
        if problem is not None:
            raise SaveFailed(problem)

    def forget(self) -> None:
        self._states.clear()

    def save_output(self, task: Task, index: int, path: Path) -> str:
        media_type, problem = self._on_head(remote.output, self._kept.pop((task.number, index)), str(path))
        if problem is not None:
            raise SaveFailed(problem)
        return str(media_type)

    def export(self, key: Key, path: Path) -> int:
        size = self._on_head(remote.export, self._parts[key], str(path))
        if isinstance(size, str):
            raise SaveFailed(size)
        return int(size)

    def adopt(self, key: Key, path: Path) -> None:
        self._parts[key] = self._read(path)

    def adopt_state(self, key: Key, path: Path) -> None:
        """As `adopt`, of a fitted state."""
        self._states[key] = self._read(path)

    def _read(self, path: Path) -> Any:
        return remote.adopt.options(scheduling_strategy=self.connection.on_head).remote(str(path))

    def choose(self, rows: Sequence[Mapping[str, Any]]) -> int:
        place = self._on_head(remote.choose, self._job, rows)
        if isinstance(place, str):
            raise SaveFailed(place)
        return int(place)

    def _on_head(self, function: Any, *given: Any) -> Any:
        """Call on the machine whose files are shipped. Raises SaveFailed or StatesLost."""
        try:
            return ray.get(function.options(scheduling_strategy=self.connection.on_head).remote(*given))
        except ObjectLostError as error:
            raise StatesLost(type(error).__name__) from error
        except (WorkerCrashedError, OutOfMemoryError) as error:
            raise SaveFailed(_ENDED) from error
        except RayTaskError as error:
            raise SaveFailed(str(error.cause)) from error


@contextmanager
def _loading() -> Iterator[None]:
    """What it means for the job where its rows cannot be had."""
    try:
        yield
    except OutOfMemoryError as error:
        raise JobFailed(Reason.OOM_KILLED, f"the inputs do not fit into memory: {error}") from error
    except WorkerCrashedError as error:
        raise JobFailed(Reason.USER_ERROR, f"while inputs and nodes were loaded, {_ENDED}") from error
    except RayTaskError as error:
        raise JobFailed(Reason.STAGE_IN_FAILED, f"the inputs cannot be handed to tasks: {error.cause}") from error


def _options(task: Task) -> dict[str, Any]:
    """What Ray is told of a task's needs."""
    needs = task.needs
    if needs is None:
        return {}
    asked = {"num_cpus": needs.num_cpus, "num_gpus": needs.num_gpus, "memory": needs.memory}
    return {name: value for name, value in asked.items() if value is not None}
