"""The last node of candidates on one cut: fitted and scored in the process that has the rows."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from flaregate.errors import NoArtifact
from flaregate.fitted import FittedPipeline
from flaregate.parts import combine
from flaregate.routing import WEIGHT, routed, routing
from flaregate_wire.definitions import FOLDED, JoinNode
from flaregate_wire.planning import Step
from worker_image.engine.rows import Parts, Rows
from worker_image.engine.running import Stopwatch, on_rows, watched
from worker_image.engine.scores import score, stand_in
from worker_image.engine.session import FunctionEstimator, Session
from worker_image.engine.steps import with_lineage
from worker_image.engine.tasks import Piece, Report


def run_leaf(session: Session, step: Step, rows: Rows, inputs: Sequence[Parts]) -> Piece:
    """Fit one leaf on a cut, and score it where there are rows to test."""
    definition = session.context.definition
    sources = inputs or (rows.X,)
    tests = definition.action in FOLDED and sources[0].test is not None
    train_scored = session.scores_training(rows.cut)
    instead = stand_in(definition)
    scores = instead if tests else None
    train_scores = instead if train_scored else None
    estimator: Any = None
    fit_time = score_time = 0.0
    late_error = None
    with watched() as seen:
        watch = Stopwatch()
        X = _joined(session, step, sources)  # noqa: N806 - scikit-learn's name
        estimator = _leaf(session, step)
        params = _params(session, step, rows, estimator)
        on_rows(seen, step.node, partial(_fit, estimator), X.train, rows.y.train, params)
        fit_time = watch.lap()
        seen_by_scorer, raw = _shown(session, step, estimator, sources, rows, X)
        scored = partial(score, session, seen_by_scorer, instead)
        if tests:
            scores, late_error = on_rows(seen, step.node, scored, raw.test, rows.y.test, rows.weights.test)
            score_time = watch.lap()
        if train_scored:
            train_scores, train_error = on_rows(seen, step.node, scored, raw.seen, rows.y.train, rows.weights.train)
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
    return Piece(report, state=None if seen.error else _state(session, step, estimator))


def _joined(session: Session, step: Step, sources: Sequence[Parts]) -> Parts:
    node = session.node(step.node)
    if not isinstance(node, JoinNode):
        (X,) = sources  # noqa: N806
        return X
    state = session.prototype(step.node)

    def joined(parts: list[Any]) -> Any:
        return None if parts[0] is None else combine(parts, node.of) if state is None else state(parts)

    again = None if sources[0].again is None else joined([source.seen for source in sources])
    return Parts(joined([source.train for source in sources]), joined([source.test for source in sources]), again)


def _leaf(session: Session, step: Step) -> Any:
    if isinstance(session.node(step.node), JoinNode):
        return FunctionEstimator(_same)
    return session.estimator(step.node, step.settings)


def _same(rows: Any) -> Any:
    return rows


def _params(session: Session, step: Step, rows: Rows, estimator: Any) -> dict[str, Any]:
    params = session.fit_params(step.node, rows)
    weights = rows.weights.train
    if weights is None or session.node(step.node).kind != "estimator":
        return params
    return params | (routed(f"node {step.node!r}", estimator, "fit", weights) if routing() else {WEIGHT: weights})


def _fit(estimator: Any, X: Any, y: Any, params: dict[str, Any]) -> None:  # noqa: N803
    if y is None:
        estimator.fit(X, **params)
    else:
        estimator.fit(X, y, **params)


def _shown(
    session: Session,
    step: Step,
    estimator: Any,
    sources: Sequence[Parts],
    rows: Rows,
    X: Parts,  # noqa: N803
) -> tuple[Any, Parts]:
    """What a scorer sees: the last node and the rows that reach it, or the whole pipeline and the rows themselves.

    The whole is what scikit-learn would show: an estimator that stands alone, a Pipeline where the path is a chain.
    """
    if not session.data.whole or not step.inputs:
        return estimator, X
    whole = FittedPipeline(with_lineage(session.node(step.node), _state(session, step, estimator), sources))
    try:
        return whole.to_sklearn(), rows.X
    except NoArtifact:
        return whole, rows.X


def _state(session: Session, step: Step, estimator: Any) -> Any:
    """What a fitted pipeline keeps of its last node."""
    kind = session.node(step.node).kind
    if kind == "join":
        return session.prototype(step.node)
    return estimator.function if isinstance(estimator, FunctionEstimator) else estimator
