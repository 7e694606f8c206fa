"""RayRunner: one Ray task for each task. Ray retries nothing: the schedule knows what was lost and what killed itself.

Ray tells a process that ended (WorkerCrashedError) from a machine that did (NodeDiedError); its own retries treat
both alike, and would run code that kills its process again and again.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, RayTaskError, WorkerCrashedError

from flaregate_wire.planning import Step
from flaregate_wire.states import Reason
from worker_image.engine.prepare import JobFailed, Summary
from worker_image.engine.runner import SaveFailed, StatesLost
from worker_image.engine.running import error_detail
from worker_image.engine.session import Context
from worker_image.engine.tasks import Done, Key, Loss, Report, Task
from worker_image.ray_runner import remote
from worker_image.ray_runner.cluster import Connection

_ENDED = "the process that ran it was killed, or left by os._exit"


@dataclass(slots=True)
class RayRunner:
    """Runs tasks on the machines of one Ray cluster, each on one CPU."""

    connection: Connection
    min_workers: int = 0
    join_seconds: float = 60.0
    name: str = "RayRunner"
    _context: Any = None
    _job: list[Any] = field(default_factory=list)
    _running: dict[Any, Task] = field(default_factory=dict)
    """By the reference to what the task reports."""
    _parts: dict[Key, Any] = field(default_factory=dict)
    _states: dict[str, Any] = field(default_factory=dict)

    def slots(self) -> int:
        return self.connection.slots()

    def prepare(self, context: Context, files: Mapping[str, str]) -> Summary:
        self._context = ray.put(context)
        load: Any = remote.load.options(scheduling_strategy=self.connection.on_head)
        data, summary = load.remote(self._context, files)
        self._job = [self._context, data]
        self.connection.wait_for_workers(self.min_workers, self.join_seconds)
        warm = remote.warm.options(scheduling_strategy="SPREAD")
        warming = [warm.remote() for _ in range(self.slots() - 1)]  # beside the loading, which has a process itself
        try:
            given: Summary | JobFailed = ray.get(summary)
        except OutOfMemoryError as error:
            raise JobFailed(Reason.OOM_KILLED, f"the inputs do not fit into memory: {error}") from error
        except WorkerCrashedError as error:
            raise JobFailed(Reason.USER_ERROR, f"while inputs and nodes were loaded, {_ENDED}") from error
        except RayTaskError as error:
            raise JobFailed(Reason.STAGE_IN_FAILED, f"the inputs cannot be handed to tasks: {error.cause}") from error
        if isinstance(given, JobFailed):
            raise given
        del warming
        return given

    def submit(self, task: Task) -> None:
        inputs = [self._parts[key] for key in task.inputs]
        if task.leaf:
            made = remote.leaves.options(num_returns=1 + task.keeps_state).remote(self._job, task, *inputs)
            report, *states = made if task.keeps_state else [made]
        else:
            made = remote.step.options(num_returns=2 + task.keeps_state).remote(self._job, task, *inputs)
            report, self._parts[task.key], *states = made
        if states:
            self._states[task.step.digest] = states[0]
        self._running[report] = task

    def wait(self) -> Sequence[Done]:
        waiting = list(self._running)
        ready, _ = ray.wait(waiting, num_returns=1)
        more, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        return [self._done(reference) for reference in dict.fromkeys((*ready, *more))]

    def _done(self, reference: Any) -> Done:
        task = self._running.pop(reference)
        try:
            ran: remote.Ran = ray.get(reference)
        except (WorkerCrashedError, OutOfMemoryError) as error:
            message = f"out of memory: {error}" if isinstance(error, OutOfMemoryError) else _ENDED
            return Done(task, loss=Loss.DIED, message=message)
        except NodeDiedError as error:
            return Done(task, loss=Loss.NODE_LOST, message=str(error).partition(". ")[0])
        except ObjectLostError as error:
            return Done(task, loss=Loss.INPUT_LOST, message=type(error).__name__)
        except RayTaskError as error:  # what it passes on cannot be pickled
            report = Report(error=error_detail(error.cause if isinstance(error.cause, Exception) else error))
            return Done(task, (report,) * len(task.members), host=self.connection.host(self.connection.head))
        return Done(task, ran.reports, ran.seconds, self.connection.host(ran.node))

    def release(self, keys: Collection[Key]) -> None:
        for key in keys:
            self._parts.pop(key, None)

    def save(self, steps: Sequence[Step], path: Path) -> None:
        states = [self._states[step.digest] for step in steps]
        save = remote.save.options(scheduling_strategy=self.connection.on_head)
        try:
            problem: str | None = ray.get(save.remote(self._context, list(steps), str(path), *states))
        except ObjectLostError as error:
            raise StatesLost(str(path.name)) from error
        except (WorkerCrashedError, OutOfMemoryError) as error:
            raise SaveFailed(_ENDED) from error
        except RayTaskError as error:
            raise SaveFailed(str(error.cause)) from error
        if problem is not None:
            raise SaveFailed(problem)

    def forget(self) -> None:
        self._states.clear()
