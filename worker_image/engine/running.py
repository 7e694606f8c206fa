"""Around user code in a task: warnings and errors become data, and a write to read-only input gets one copy."""

import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypeVar

from flaregate_wire.events import ErrorDetail, WarningDetail
from worker_image.engine.rows import frozen, writable

WARNINGS = 20
"""At most so many different ones of one step."""
READ_ONLY = "read-only"
"""What numpy's errors say of a write into what is not writable."""
T = TypeVar("T")


def error_detail(error: BaseException) -> ErrorDetail:
    """An exception as data, its traceback without our own frames."""
    trace = error.__traceback__
    ours = __name__.partition(".")[0]
    while trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0] == ours:
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace or error.__traceback__)
    return ErrorDetail(type=type(error).__name__, message=str(error), traceback="".join(lines))


@dataclass(slots=True)
class Watched:
    """What was seen while user code ran."""

    warnings: tuple[WarningDetail, ...] = ()
    error: ErrorDetail | None = None
    notes: list[str] = field(default_factory=list)
    inner_fits: int = 0


@contextmanager
def watched() -> Iterator[Watched]:
    """Collect warnings and hold the first error. Leaving a process by sys.exit is an error too."""
    seen = Watched()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        try:
            yield seen
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code may raise anything; it becomes the outcome
            seen.error = error_detail(error)
    seen.warnings = distinct(
        WarningDetail(category=f"{one.category.__module__}:{one.category.__qualname__}", message=str(one.message))
        for one in caught
    )


def distinct(found: Iterator[WarningDetail]) -> tuple[WarningDetail, ...]:
    """Each warning once, in order, and not too many."""
    return tuple(dict.fromkeys(found))[:WARNINGS]


def on_rows(seen: Watched, node: str, call: Callable[..., T], *rows: Any) -> T:
    """Call with read-only rows (X, y, parameters of a fit); once more with copies where the code writes into them."""
    try:
        return call(*(frozen(part) for part in rows))
    except ValueError as error:
        if READ_ONLY not in str(error):
            raise
    seen.notes.append(f"node {node!r} writes into its input; it got a copy")
    return call(*(writable(part) for part in rows))


@dataclass(slots=True)
class Stopwatch:
    """Seconds since it was made or last asked."""

    _since: float = field(default_factory=perf_counter)

    def lap(self) -> float:
        """Seconds of this lap; the next begins."""
        before, self._since = self._since, perf_counter()
        return self._since - before
