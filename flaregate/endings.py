"""What is raised when a job has ended without its result, and the warnings of its tasks. No I/O."""

import warnings
from typing import Any

from flaregate.errors import CostCapReached, JobCancelled, JobEnded, JobFailed, JobTimedOut
from flaregate.imports import resolve
from flaregate.outcomes import Result
from flaregate_wire.jobs import JobView
from flaregate_wire.states import State

_CLASSES: dict[State, type[JobEnded]] = {
    State.FAILED: JobFailed,
    State.CANCELLED: JobCancelled,
    State.TIMED_OUT: JobTimedOut,
}


def raise_for(view: JobView, result: Result, job: Any) -> None:
    """Raise the error of a terminal state that is not success."""
    error = _CLASSES.get(view.state)
    if error is None:
        return
    if view.reason == "cost_cap":
        error = CostCapReached
    raise error(_message(view, result), job=job, reason=view.reason, result=result)


def _message(view: JobView, result: Result) -> str:
    reason = f" ({view.reason})" if view.reason else ""
    lines = [f"{view.id} {view.state}{reason}{f': {view.message}' if view.message else ''}"]
    failed = next((outcome.error for outcome in result.outcomes if outcome.error), None)
    if failed is not None:
        lines.append(failed.traceback or f"{failed.type}: {failed.message}")
    elif view.log_tail:
        lines += ["last log lines:", *view.log_tail]
    if view.hint:
        lines.append(view.hint)
    return "\n".join(lines)


def warn_once(result: Result) -> None:
    """Give each different warning of the tasks to the caller, once."""
    told = {(item.category, item.message): None for outcome in result.outcomes for item in outcome.warnings}
    for category, message in told:
        warnings.warn(message, _category(category), stacklevel=3)


def _category(path: str) -> type[Warning]:
    try:
        found = resolve(path)
    except (ImportError, AttributeError):
        return UserWarning
    return found if isinstance(found, type) and issubclass(found, Warning) else UserWarning
