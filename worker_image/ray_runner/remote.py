"""What runs in Ray's worker processes. Each process fetches a job's definition and rows once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any

import ray
from threadpoolctl import threadpool_limits

from flaregate.fitted_file import write
from flaregate_wire.planning import Step
from worker_image.engine.leaves import run_leaves
from worker_image.engine.prepare import JobFailed, Summary, prepare
from worker_image.engine.rows import Parts
from worker_image.engine.runner import fitted_nodes
from worker_image.engine.running import error_detail
from worker_image.engine.session import Context, Data, Session
from worker_image.engine.steps import run_step
from worker_image.engine.tasks import Report, Task

Job = Sequence[Any]
"""References to the context and to the data, in a list so that Ray does not resolve them for each task."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What the driver hears of a task."""

    reports: tuple[Report, ...]
    seconds: float
    node: str


_sessions: dict[str, Session] = {}


def _session(job: Job) -> Session:
    context, data = job
    name = data.hex()
    if name not in _sessions:
        threadpool_limits(1)
        _sessions[name] = Session(*ray.get([context, data]))
    return _sessions[name]


@lru_cache(maxsize=1)
def _node() -> str:
    return str(ray.get_runtime_context().get_node_id())


@ray.remote(num_cpus=1, max_retries=0)
def warm() -> None:
    """By running at all it has imported this module, and with it all that tasks need."""


@ray.remote(num_cpus=1, max_retries=0, num_returns=2)
def load(context: Context, files: Mapping[str, str]) -> tuple[Data | None, Summary | JobFailed]:
    """Inputs, node checks and folds, on the machine that has the files."""
    try:
        return prepare(context, files)
    except JobFailed as error:
        return None, error.with_traceback(None)


@ray.remote(num_cpus=1, max_retries=0)
def step(job: Job, task: Task, *inputs: Parts) -> tuple[Any, ...]:
    """A task above the leaves: the report, what it passes on, and its state where all rows train."""
    session = _session(job)
    begin = perf_counter()
    result = run_step(session, task, inputs)
    ran = Ran((result.report,), perf_counter() - begin, _node())
    return (ran, result.parts, result.state) if task.keeps_state else (ran, result.parts)


@ray.remote(num_cpus=1, max_retries=0)
def leaves(job: Job, task: Task, *inputs: Parts) -> Any:
    """A batch of leaves: the reports, and the state where all rows train."""
    session = _session(job)
    begin = perf_counter()
    results = run_leaves(session, task, inputs)
    ran = Ran(tuple(leaf.report for leaf in results), perf_counter() - begin, _node())
    return (ran, results[0].state) if task.keeps_state else ran


@ray.remote(num_cpus=1, max_retries=0)
def save(context: Context, steps: Sequence[Step], path: str, *states: Any) -> str | None:
    """Write a fitted pipeline on the machine that ships it; gives what went wrong."""
    try:
        write(Path(path), fitted_nodes(context, steps, states))
    except Exception as error:  # noqa: BLE001 - pickling runs the user's code, which may raise anything
        detail = error_detail(error)
        return f"{detail.type}: {detail.message}"
    return None
