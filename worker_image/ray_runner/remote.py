"""What runs in Ray's worker processes. Each process fetches a job's definition and rows once."""

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any

import ray
from threadpoolctl import threadpool_limits

from flaregate.fitted_file import write
from flaregate_wire.planning import Step
from worker_image.engine import choosing, parts_file
from worker_image.engine.prepare import JobFailed, Summary, prepare
from worker_image.engine.rows import Parts
from worker_image.engine.runner import fitted_nodes, write_output
from worker_image.engine.running import error_detail
from worker_image.engine.session import Context, Data, Session
from worker_image.engine.tasks import Report, Task
from worker_image.engine.work import work

Job = Sequence[Any]
"""References to the context and to the data, in a list so that Ray does not resolve them for each task."""
TELL_SECONDS = 0.05
"""A batch tells what it has as often as this, so that little is lost with its process."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a leaf leaves beside its report."""

    state: Any
    output: Any


@dataclass(frozen=True, slots=True)
class Ran:
    """What the driver hears of a task, or of a part of it."""

    reports: tuple[Report, ...]
    seconds: float
    node: str
    kept: tuple[tuple[int, Any], ...] = ()
    """By number of the member, a reference to what it leaves; it is read while this process lives."""


_sessions: dict[str, Session] = {}


def _session(job: Job) -> Session:
    context, data = job
    name = data.hex()
    if name not in _sessions:
        _sessions.clear()  # of a job before this one
        threadpool_limits(1)
        _sessions[name] = Session(*ray.get([context, data]))
    return _sessions[name]


@lru_cache(maxsize=1)
def _node() -> str:
    return str(ray.get_runtime_context().get_node_id())


@contextmanager
def _limited(task: Task) -> Iterator[None]:
    """The kernel ends this process when the task takes too long, whatever its code is doing then."""
    limit = None if task.needs is None else task.needs.timeout
    if limit is None:
        yield
        return
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@ray.remote(num_cpus=1, max_retries=0)
def warm() -> None:
    """By running at all it has imported this module, and with it all that tasks need."""


@ray.remote(num_cpus=1, max_retries=0)
def begin(job: Job) -> None:
    """Make this process ready for the job's tasks."""
    _session(job)


@ray.remote(num_cpus=1, max_retries=0, num_returns=2)
def load(context: Context, files: Mapping[str, str]) -> tuple[Data | None, Summary | JobFailed]:
    """Inputs, node checks and folds, on the machine that has the files."""
    try:
        return prepare(context, files)
    except JobFailed as error:
        return None, error.with_traceback(None)


@ray.remote(num_cpus=1, max_retries=0)
def steps(job: Job, task: Task, *inputs: Parts) -> tuple[Any, ...]:
    """Steps above the leaves: the reports, what the last passes on, and their states where all rows train."""
    begin = perf_counter()
    with _limited(task):
        pieces = list(work(_session(job), task, inputs))
    ran = Ran(tuple(piece.report for piece in pieces), perf_counter() - begin, _node())
    states = [piece.state for piece in pieces] if task.keeps_state else []
    return (ran, pieces[-1].parts, *states)


@ray.remote(num_cpus=1, max_retries=0)
def leaves(job: Job, task: Task, *inputs: Parts) -> Iterator[Ran]:
    """A batch of leaves: reports in the order of its members, as they come."""
    begin = perf_counter()
    reports: list[Report] = []
    kept: list[tuple[int, Any]] = []
    with _limited(task):
        for index, piece in enumerate(work(_session(job), task, inputs)):
            reports.append(piece.report)
            if piece.report.held:
                kept.append((index, ray.put(Kept(piece.state, piece.parts))))
            if perf_counter() - begin > TELL_SECONDS:
                yield Ran(tuple(reports), perf_counter() - begin, _node(), tuple(kept))
                begin, reports, kept = perf_counter(), [], []
    yield Ran(tuple(reports), perf_counter() - begin, _node(), tuple(kept))


@ray.remote(num_cpus=1, max_retries=0, num_returns=2)
def leaf(job: Job, task: Task, *inputs: Parts) -> tuple[Ran, Kept]:
    """One leaf: the report; its state, and what it gives where that is held."""
    begin = perf_counter()
    with _limited(task):
        (piece,) = work(_session(job), task, inputs)
    return Ran((piece.report,), perf_counter() - begin, _node()), Kept(piece.state, piece.parts)


@ray.remote(num_cpus=1, max_retries=0)
def save(context: Context, path_steps: Sequence[Step], path: str, *states: Any) -> str | None:
    """Write a fitted pipeline on the machine that ships it; gives what went wrong."""
    fitted = [state.state if isinstance(state, Kept) else state for state in states]
    try:
        write(Path(path), fitted_nodes(context, path_steps, fitted))
    except Exception as error:  # noqa: BLE001 - pickling runs the user's code, which may raise anything
        return _told(error)
    return None


@ray.remote(num_cpus=1, max_retries=0, num_returns=2)
def output(kept: Kept, path: str) -> tuple[str | None, str | None]:
    """Write what a leaf gave; gives its media type, or what went wrong."""
    try:
        return write_output(kept.output, Path(path)), None
    except Exception as error:  # noqa: BLE001 - pickling runs the user's code
        return None, _told(error)


@ray.remote(num_cpus=1, max_retries=0)
def export(parts: Parts, path: str) -> int | str:
    """Write what a step passes on, on the machine that ships it; gives bytes, or what went wrong."""
    try:
        return parts_file.write(parts, Path(path))
    except Exception as error:  # noqa: BLE001 - pickling runs the user's code
        return _told(error)


@ray.remote(num_cpus=1, max_retries=0)
def adopt(path: str) -> Any:
    """What such a file has."""
    return parts_file.read(Path(path))


@ray.remote(num_cpus=1, max_retries=0)
def choose(job: Job, rows: Sequence[Mapping[str, Any]]) -> int | str:
    """Ask the user's function which row is best; gives what went wrong where it does."""
    try:
        return choosing.choose(_session(job), rows)
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything
        return _told(error)


def _told(error: Exception) -> str:
    detail = error_detail(error)
    return f"{detail.type}: {detail.message}"
