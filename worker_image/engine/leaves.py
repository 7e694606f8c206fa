"""The last nodes of candidates on one fold: fitted and scored, one after the other in the process that has the rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flaregate.parts import combine
from flaregate_wire.definitions import JoinNode
from flaregate_wire.planning import Step
from worker_image.engine.rows import Parts
from worker_image.engine.running import Stopwatch, on_rows, watched
from worker_image.engine.scores import score, stand_in
from worker_image.engine.session import FunctionEstimator, Session
from worker_image.engine.tasks import Report, Task


@dataclass(frozen=True, slots=True)
class LeafResult:
    """What a leaf gave: its fitted object, and the report."""

    state: Any
    report: Report


def run_leaves(session: Session, task: Task, inputs: Sequence[Parts]) -> list[LeafResult]:
    """Run a batch of leaves on one fold."""
    with session.configured():
        X, y = session.rows(task.fold)  # noqa: N806 - scikit-learn's names
        return [_run_leaf(session, member.step, inputs or (X,), y) for member in task.members]


def _run_leaf(session: Session, step: Step, sources: Sequence[Parts], y: Parts) -> LeafResult:
    definition = session.context.definition
    instead = stand_in(definition)
    tests = sources[0].test is not None
    estimator: Any = None
    fit_time = score_time = 0.0
    scores = instead if tests else None
    train_scores = instead if definition.return_train_score else None
    late_error = None
    with watched() as seen:
        watch = Stopwatch()
        X = _joined(session, step, sources)  # noqa: N806
        estimator = _leaf(session, step)
        on_rows(seen, step.node, lambda rows: _fit(estimator, rows, y.train), X.train)
        fit_time = watch.lap()
        if tests:
            scores, late_error = score(estimator, X.test, y.test, session.scoring(), instead)
            score_time = watch.lap()
        if definition.return_train_score:
            train_scores, train_error = score(estimator, X.train, y.train, session.scoring(), instead)
            late_error = late_error or train_error
    report = Report(
        error=seen.error or late_error,
        fit_time=fit_time,
        score_time=score_time,
        scores=scores,
        train_scores=train_scores,
        warnings=seen.warnings,
        fitted=session.node(step.node).kind == "estimator",
        notes=tuple(seen.notes),
    )
    return LeafResult(None if seen.error else _state(session, step, estimator), report)


def _joined(session: Session, step: Step, sources: Sequence[Parts]) -> Parts:
    node = session.node(step.node)
    if not isinstance(node, JoinNode):
        (X,) = sources  # noqa: N806
        return X
    state = session.prototype(step.node)
    every = [[source.train for source in sources], [source.test for source in sources]]
    return Parts(
        *(None if parts[0] is None else combine(parts, node.of) if state is None else state(parts) for parts in every)
    )


def _leaf(session: Session, step: Step) -> Any:
    if isinstance(session.node(step.node), JoinNode):
        return FunctionEstimator(_same)
    return session.estimator(step.node, step.settings)


def _same(rows: Any) -> Any:
    return rows


def _fit(estimator: Any, X: Any, y: Any) -> None:  # noqa: N803
    if y is None:
        estimator.fit(X)
    else:
        estimator.fit(X, y)


def _state(session: Session, step: Step, estimator: Any) -> Any:
    """What a fitted pipeline keeps of its last node."""
    kind = session.node(step.node).kind
    if kind == "join":
        return session.prototype(step.node)
    return estimator.function if isinstance(estimator, FunctionEstimator) else estimator
