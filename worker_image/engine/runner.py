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
from flaregate.payload import encode_data
from flaregate_wire.planning import Step
from worker_image.engine import parts_file
from worker_image.engine.choosing import choose
from worker_image.engine.prepare import Summary, prepare
from worker_image.engine.session import Context, Session
from worker_image.engine.steps import feeding, fitted_node
from worker_image.engine.tasks import Cut, Done, Key, Piece, Report, Task
from worker_image.engine.work import work


class SaveFailed(Exception):
    """The fitted pipeline or the output cannot be written."""


class StatesLost(Exception):
    """Fitted states, or what a task gave, were on a machine that is gone; running it again gives them."""


class Runner(Protocol):
    """Runs tasks. Any runner gives the same reports for the same tasks.

    What the last step of a task passes on is held under the task's key until it is released. Results of a cut on which
    all rows train come with fitted states, which are held under (digest, cut) until `forget`. What a leaf gives beside
    its report, where that says `held`, is held until `save_output`.
    """

    @property
    def name(self) -> str: ...

    def slots(self) -> int:
        """Tasks that run at once; may change while machines come and go. Cheap."""
        ...

    def idle_workers(self) -> tuple[int, ...]:
        """Numbers of the containers beside the head that run nothing, while no task waits for a place."""
        ...

    def prepare(self, context: Context, files: Mapping[str, str]) -> Summary:
        """Load inputs, check nodes, make folds; raises JobFailed. Once a job, before its first task.

        A second call begins another job and lets go of everything of the one before.
        """
        ...

    def submit(self, task: Task) -> None:
        """Take a task whose inputs are held. Does not wait."""
        ...

    def wait(self, timeout: float | None = None) -> Sequence[Done]:
        """Wait until a submitted task has ended; gives all that have. A task is given once.

        With a timeout, in seconds, there may be none.
        """
        ...

    def release(self, keys: Collection[Key]) -> None:
        """Let go of what nothing reads any more; unknown keys are fine."""
        ...

    def save(self, steps: Sequence[Step], cut: Cut, path: Path) -> None:
        """Write the fitted pipeline of these steps, fitted on this cut. Raises SaveFailed or StatesLost."""
        ...

    def forget(self) -> None:
        """Let go of every fitted state."""
        ...

    def save_output(self, task: Task, index: int, path: Path) -> str:
        """Write what member `index` of a task gave, and let go of it; gives its media type.

        Raises SaveFailed or StatesLost.
        """
        ...

    def export(self, key: Key, path: Path) -> int:
        """Write what is held under `key` to a file, for `adopt`; gives bytes. Raises SaveFailed or StatesLost."""
        ...

    def adopt(self, key: Key, path: Path) -> None:
        """Hold under `key` what such a file has, as if a task had made it. The file is left where it is."""
        ...

    def choose(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Ask the job's own function which of these rows is best: see `choosing`. Raises SaveFailed."""
        ...


def fitted_nodes(context: Context, steps: Sequence[Step], states: Sequence[Any]) -> list[FittedNode]:
    """The nodes of a path with their fitted states, as a file of a fitted pipeline holds them."""
    nodes = {node.name: node for node in context.definition.pipeline.nodes}
    names = {step.digest: step.node for step in steps}
    return [
        fitted_node(nodes[step.node], feeding(nodes[step.node], [names[source] for source in step.inputs]), state)
        for step, state in zip(steps, states, strict=True)
    ]


def write_output(output: Any, path: Path) -> str:
    """Write an output as it is staged; gives its media type."""
    item = encode_data(output)
    with path.open("wb") as file:
        file.writelines(item.chunks)
    return item.media_type


@dataclass(slots=True)
class SequentialRunner:
    """Everything in this process, one task after the other, in the order of submission."""

    name: str = "SequentialRunner"
    _session: Session | None = None
    _threads: ThreadpoolController = field(default_factory=ThreadpoolController)
    _tasks: deque[Task] = field(default_factory=deque)
    _parts: dict[Key, Any] = field(default_factory=dict)
    _states: dict[Key, Any] = field(default_factory=dict)
    _outputs: dict[tuple[int, int], Any] = field(default_factory=dict)

    def slots(self) -> int:
        return 1

    def idle_workers(self) -> tuple[int, ...]:
        return ()

    def prepare(self, context: Context, files: Mapping[str, str]) -> Summary:
        for held in (self._tasks, self._parts, self._states, self._outputs):
            held.clear()
        data, summary = prepare(context, files)
        self._session = Session(context, data)
        return summary

    def submit(self, task: Task) -> None:
        self._tasks.append(task)

    def wait(self, timeout: float | None = None) -> Sequence[Done]:
        if not self._tasks:
            return []
        task = self._tasks.popleft()
        start = perf_counter()
        with self._threads.limit(limits=1):
            reports = self._run(task)
        return [Done(task, tuple(reports), perf_counter() - start, socket.gethostname())]

    def _run(self, task: Task) -> Sequence[Report]:
        inputs = [self._parts[key] for key in task.inputs]
        pieces = list(work(self._prepared(), task, inputs))
        for index, (digest, piece) in enumerate(zip(task.digests, pieces, strict=True)):
            self._keep(task, index, digest, piece)
        if task.steps:
            self._parts[task.key] = pieces[-1].parts
        return [piece.report for piece in pieces]

    def _keep(self, task: Task, index: int, digest: str, piece: Piece) -> None:
        if task.keeps_state:
            self._states[digest, task.cut] = piece.state
        if piece.report.held:
            self._outputs[task.number, index] = piece.parts

    def release(self, keys: Collection[Key]) -> None:
        for key in keys:
            self._parts.pop(key, None)

    def save(self, steps: Sequence[Step], cut: Cut, path: Path) -> None:
        states = [self._states[step.digest, cut] for step in steps]
        try:
            write(path, fitted_nodes(self._prepared().context, steps, states))
        except Exception as error:
            raise SaveFailed(f"{type(error).__name__}: {error}") from error

    def forget(self) -> None:
        self._states.clear()

    def save_output(self, task: Task, index: int, path: Path) -> str:
        try:
            return write_output(self._outputs.pop((task.number, index)), path)
        except Exception as error:
            raise SaveFailed(f"{type(error).__name__}: {error}") from error

    def export(self, key: Key, path: Path) -> int:
        try:
            return parts_file.write(self._parts[key], path)
        except Exception as error:
            raise SaveFailed(f"{type(error).__name__}: {error}") from error

    def adopt(self, key: Key, path: Path) -> None:
        self._parts[key] = parts_file.read(path)

    def choose(self, rows: Sequence[Mapping[str, Any]]) -> int:
        try:
            return choose(self._prepared(), rows)
        except Exception as error:
            raise SaveFailed(f"{type(error).__name__}: {error}") from error

    def _prepared(self) -> Session:
        if self._session is None:
            msg = "prepare comes first"
            raise RuntimeError(msg)
        return self._session
