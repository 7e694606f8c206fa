"""Leaves that learn nothing: a sweep's cell, a block of a map, a fitted pipeline applied to rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from numbers import Real
from typing import Any

from pydantic import JsonValue
from sklearn.utils import _safe_indexing

from flaregate.payload import Staged
from flaregate.running import as_candidate, settle
from flaregate.values import encode_value
from flaregate_wire.definitions import Action, JoinNode, ModelNode
from flaregate_wire.planning import Step
from flaregate_wire.planning.families import Member
from worker_image.engine.cell_log import labelled
from worker_image.engine.rows import Parts, frozen
from worker_image.engine.running import Stopwatch, Watched, on_rows, watched
from worker_image.engine.scores import SCORE, score, stand_in
from worker_image.engine.session import Session
from worker_image.engine.tasks import Piece, Report, Task

SETTLE_SECONDS = 60.0
"""What a cell leaves is in the store before its outcome is known, unless that takes longer."""
INLINE_BYTES = 16 * 1024
"""What is larger than this is an artifact, never in an event."""


def run_cell(session: Session, step: Step, inputs: Sequence[Parts]) -> Piece:
    """A sweep's step above its cells: what it gives goes to the next ones by its name."""
    parts: Parts | None = None
    with watched() as seen:
        watch = Stopwatch()
        given = _called(session, step, inputs)
        parts = Parts(given if isinstance(session.node(step.node), JoinNode) else {step.node: given})
    return Piece(Report(error=seen.error, fit_time=watch.lap(), warnings=seen.warnings), parts)


def _called(session: Session, step: Step, inputs: Sequence[Parts]) -> Any:
    above: dict[str, Any] = {}
    for part in inputs:
        above |= part.train
    combine = session.prototype(step.node)
    if isinstance(session.node(step.node), JoinNode):
        return above if combine is None else {step.node: combine(list(above.values()))}
    return session.function(step.node, step.settings)(**above)


def run_call(session: Session, task: Task, member: Member, inputs: Sequence[Parts]) -> Piece:
    """A cell, a block or an application of a fitted pipeline, with what it gives."""
    output: Any = None
    scores: dict[str, float] | None = None
    metrics: dict[str, JsonValue] | None = None
    watch = Stopwatch()
    with watched() as seen, as_candidate(member.candidates[0]):
        if session.context.definition.action is Action.SWEEP:
            with labelled(member.candidates[0]):
                output = _called(session, member.step, inputs)
            metrics = _metrics(output)
        elif session.context.definition.action is Action.SCORE:
            scores = _scored(session, task, member.step, seen)
            output = scores[SCORE] if set(scores) == {SCORE} else scores
        else:
            output = _applied(session, task, member.step, seen)
    report = Report(
        error=seen.error, fit_time=watch.lap(), warnings=seen.warnings, notes=tuple(seen.notes), scores=scores
    )
    settle(member.candidates[0], SETTLE_SECONDS)
    return report_output(report, metrics, output)


def report_output(report: Report, metrics: dict[str, JsonValue] | None, output: Any) -> Piece:
    """The report with the output in it, or beside it where it is large."""
    if metrics is not None:
        return Piece(replace(report, metrics=metrics))
    if report.error is not None:
        return Piece(report)
    try:
        return Piece(replace(report, output=_inline(output)))
    except _NotInline:
        return Piece(replace(report, held=True), output)


class _NotInline(Exception):
    """The output is no small typed value."""


def _inline(output: Any) -> JsonValue:
    def stage(_: Staged) -> str:
        raise _NotInline

    if _length(output) > INLINE_BYTES:
        raise _NotInline
    typed = encode_value(output, stage)
    if len(json.dumps(typed)) > INLINE_BYTES:
        raise _NotInline
    return typed


def _length(output: Any) -> int:
    """Rows or items; of what has no length, or none that is clear, 0."""
    shape = getattr(output, "shape", None)
    if isinstance(shape, tuple):
        return int(shape[0]) if shape else 0
    return len(output) if hasattr(output, "__len__") else 0


def _metrics(output: Any) -> dict[str, JsonValue] | None:
    """A dict of numbers, as typed values; None for anything else."""
    if not isinstance(output, Mapping) or not output or not all(isinstance(name, str) for name in output):
        return None
    plain = {name: value.item() if hasattr(value, "item") else value for name, value in output.items()}
    if not all(isinstance(value, Real) for value in plain.values()):
        return None
    return {name: _inline(value) for name, value in plain.items()}


def _scored(session: Session, task: Task, step: Step, seen: Watched) -> dict[str, float]:
    rows = session.rows(task.cut)
    scored = partial(score, session, session.prototype(step.node), stand_in(session.context.definition))
    scores, error = on_rows(seen, step.node, scored, rows.X.train, rows.y.train, rows.weights.train)
    if error is not None:
        raise ValueError(error.message)
    return scores


def _applied(session: Session, task: Task, step: Step, seen: Watched) -> Any:
    X = session.rows(task.cut).X.train  # noqa: N806 - scikit-learn's name
    if task.rows is not None:
        X = frozen(_block(X, *task.rows))  # noqa: N806
    if isinstance(session.node(step.node), ModelNode):
        definition = session.context.definition
        method = (definition.method or "") if definition.action is Action.MAP else definition.action.value
        return on_rows(seen, step.node, getattr(session.prototype(step.node), method), X)
    return on_rows(seen, step.node, session.function(step.node, step.settings), X)


def _block(rows: Any, start: int, stop: int) -> Any:
    if isinstance(rows, list | tuple):
        return rows[start:stop]
    return _safe_indexing(rows, slice(start, stop))
