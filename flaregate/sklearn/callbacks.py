"""scikit-learn's callbacks of a search, called here before and after the fits that run elsewhere.

A callback that follows an estimator into its own iterations does not: those are in other processes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _check_method_params

from flaregate.sklearn.calls import Call


@contextmanager
def around(calls: Sequence[Call]) -> Iterator[None]:
    """Tell the callbacks of each fit that it begins and that it has ended."""
    heard = [(context, _seen(call)) for call in calls if (context := _context(call)) is not None]
    for context, seen in heard:
        context.call_on_fit_task_begin(**seen)
    try:
        yield
    finally:
        for context, seen in heard:
            context.call_on_fit_task_end(**seen)


def _context(call: Call) -> Any:
    """The fit's place in the tree of a search's tasks, where anyone listens."""
    context = call.arguments.get("callback_ctx")
    return context if getattr(context, "_callbacks", None) else None


def _seen(call: Call) -> dict[str, Any]:
    given = call.arguments
    X, y = _safe_split(given["estimator"], given["X"], given["y"], given["train"])  # noqa: N806 - scikit-learn's names
    params = _check_method_params(given["X"], params=given["fit_params"] or {}, indices=given["train"])
    weight = params.get("sample_weight")
    return {
        "estimator": given["caller"],
        "X": X,
        "y": y,
        "metadata": None if weight is None else {"sample_weight": weight},
    }
