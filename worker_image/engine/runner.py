"""The contract of what runs tasks, and SequentialRunner, the reference: one after the other, in this process."""

import socket
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from threadpoolctl import ThreadpoolController

from flaregate.fitted_file import FittedNode, write
from flaregate_wire.planning import Step
from worker_image.engine.leaves import run_leaves
from worker_image.engine.prepare import Summary, prepare
from worker_image.engine.rows import Parts
from worker_image.engine.session import Context, Session
from worker_image.engine.steps import run_step
from worker_image.engine.tasks import Done, Key, Task


class SaveFailed(Exception):
    """The fitted pipeline cannot be written."""


class StatesLost(Exception):
    """Fitted states were on a machine that is gone; fitting again gives them."""


class Runner(Protocol):
    """Runs tasks. Any runner gives the same reports for the same tasks.

    What a task above the leaves passes on is held under its key until it is released. Results of the fold ALL_ROWS
    come with fitted states, which are held under the step's digest until `forget`.
    """

    @property
    def name(self) -> str: ...

    def slots(self) -> int:
        """Tasks that run at once; may change while machines come and go. Cheap."""
        ...

    def prepare(self, context: Context, files: Mapping[str, str]) -> Summary:
        """Load inputs, check nodes, make folds; raises JobFailed. Once, before the first task."""
        ...

    def submit(self, task: Task) -> None:
        """Take a task whose inputs are held. Does not wait."""
        ...

    def wait(self) -> Sequence[Done]:
        """Wait until a submitted task has ended; gives all that have. A task is given once."""
        ...

    def release(self, keys: Collection[Key]) -> None:
        """Let go of what nothing reads any more; unknown keys are fine."""
        ...

    def save(self, steps: Sequence[Step], path: Path) -> None:
        """Write the fitted pipeline of these steps, fitted on ALL_ROWS. Raises SaveFailed or StatesLost."""
        ...

    def forget(self) -> None:
        """Let go of every fitted state."""
        ...


def fitted_nodes(context: Context, steps: Sequence[Step], states: Sequence[Any]) -> list[FittedNode]:
    """The nodes of a path with their fitted states, as a file of a fitted pipeline holds them."""
    nodes = {node.name: node for node in context.definition.pipeline.nodes}
    names = {step.digest: step.node for step in steps}
    return [
        FittedNode(step.node, nodes[step.node].kind, tuple(names[source] for source in step.inputs), state)
        for step, state in zip(steps, states, strict=True)
    ]


@dataclass(slots=True)
class SequentialRunner:
    """Everything in this process, one task after the other, in the order of submission."""

    name: str = "SequentialRunner"
    _session: Session | None = None
    _threads: ThreadpoolController = field(default_factory=ThreadpoolController)
    _tasks: deque[Task] = field(default_factory=deque)
    _parts: dict[Key, Parts | None] = field(default_factory=dict)
    _states: dict[str, Any] = field(default_factory=dict)

    def slots(self) -> int:
        return 1

    def prepare(self, context: Context, files: Mapping[str, str]) -> Summary:
        data, summary = prepare(context, files)
        self._session = Session(context, data)
        return summary

    def submit(self, task: Task) -> None:
        self._tasks.append(task)

    def wait(self) -> Sequence[Done]:
        task = self._tasks.popleft()
        start = perf_counter()
        with self._threads.limit(limits=1):
            reports = self._run(task)
        return [Done(task, tuple(reports), perf_counter() - start, socket.gethostname())]

    def _run(self, task: Task) -> Sequence[Any]:
        session = self._prepared()
        inputs = [part for key in task.inputs if (part := self._parts[key]) is not None]
        if not task.leaf:
            result = run_step(session, task, inputs)
            self._parts[task.key] = result.parts
            self._keep(task, task.step, result.state)
            return [result.report]
        results = run_leaves(session, task, inputs)
        for member, leaf in zip(task.members, results, strict=True):
            self._keep(task, member.step, leaf.state)
        return [leaf.report for leaf in results]

    def _keep(self, task: Task, step: Step, state: Any) -> None:
        if task.keeps_state:
            self._states[step.digest] = state

    def release(self, keys: Collection[Key]) -> None:
        for key in keys:
            self._parts.pop(key, None)

    def save(self, steps: Sequence[Step], path: Path) -> None:
        states = [self._states[step.digest] for step in steps]
        try:
            write(path, fitted_nodes(self._prepared().context, steps, states))
        except Exception as error:
            raise SaveFailed(f"{type(error).__name__}: {error}") from error

    def forget(self) -> None:
        self._states.clear()

    def _prepared(self) -> Session:
        if self._session is None:
            msg = "prepare comes first"
            raise RuntimeError(msg)
        return self._session
