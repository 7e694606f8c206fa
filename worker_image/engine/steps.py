"""One step above the leaves on one cut: what it passes on for training rows and for test rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv, cross_val_predict

from flaregate.fitted_file import FittedNode
from flaregate.parts import combine, passed_on, stack_method, stacked, transforms
from flaregate.routing import routed, routing
from flaregate_wire.definitions import FunctionNode, JoinNode, Node
from flaregate_wire.planning import Step
from worker_image.engine.rows import Parts, Rows, frozen
from worker_image.engine.running import Stopwatch, Watched, on_rows, watched
from worker_image.engine.session import Session
from worker_image.engine.tasks import Cut, Piece, Report

STACK_FOLDS = 5
"""As StackingClassifier(cv=None)."""
PREFIT = "prefit"


@dataclass(frozen=True, slots=True)
class _Work:
    """One node at work: what it learns and gives for training rows, what it gives for others."""

    state: Any
    learn: Callable[[Sequence[Any], Any], Any]
    apply: Callable[[Sequence[Any]], Any]
    stack_method: str = "auto"
    fits: bool = False
    """Whether it is an estimator that is fitted here."""


def run_step(session: Session, step: Step, cut: Cut, inputs: Sequence[Parts]) -> Piece:
    """Run one step; nothing is passed on after an error."""
    parts: Parts | None = None
    state: Any = None
    fits = False
    fit_time = score_time = 0.0
    with watched() as seen:
        rows = session.rows(cut)
        sources = inputs or (rows.X,)
        watch = Stopwatch()
        work = _at_work(session, step, rows, seen)
        state, fits = work.state, work.fits
        train = frozen(work.learn([source.train for source in sources], rows.y.train))
        fit_time = watch.lap()
        test = frozen(work.apply([source.test for source in sources])) if sources[0].test is not None else None
        again = None
        if session.scores_training(cut):
            again = frozen(work.apply([source.seen for source in sources]))
        score_time = watch.lap()
        lineage = with_lineage(session.node(step.node), work.state, sources) if session.data.whole else ()
        parts = Parts(train, test, again, lineage)
    report = Report(
        error=seen.error,
        fit_time=fit_time,
        score_time=score_time,
        warnings=seen.warnings,
        fitted=fits,
        inner_fits=seen.inner_fits,
        notes=tuple(seen.notes),
    )
    return Piece(report, parts, state)


def fitted_node(node: Node, inputs: Sequence[str], state: Any) -> FittedNode:
    """A node with its fitted state, as a file of a fitted pipeline holds it."""
    method = getattr(node, "stack_method", "auto")
    return FittedNode(node.name, node.kind if node.kind != "model" else "estimator", tuple(inputs), state, method)


def feeding(node: Node, sources: Sequence[str]) -> Sequence[str]:
    """Who feeds a node: of a join its own words, since equal nodes are one step, which has one name."""
    return node.of if isinstance(node, JoinNode) else sources


def with_lineage(node: Node, state: Any, sources: Sequence[Parts]) -> tuple[FittedNode, ...]:
    """A fitted node with all behind it, predecessors first."""
    above = {one.name: one for source in sources for one in source.fitted}
    last = [source.fitted[-1] for source in sources if source.fitted]
    names = feeding(node, [one.name for one in last])
    for name, one in zip(names, last, strict=True):
        above.setdefault(name, replace(one, name=name))
    return (*above.values(), fitted_node(node, names, state))


def _at_work(session: Session, step: Step, rows: Rows, seen: Watched) -> _Work:
    given = session.node(step.node)
    if isinstance(given, JoinNode):
        state = session.prototype(step.node)

        def joined(parts: Sequence[Any]) -> Any:
            return combine(parts, given.of) if state is None else state(list(parts))

        return _Work(state, lambda parts, _: joined(parts), joined)
    if isinstance(given, FunctionNode):
        function = session.function(step.node, step.settings)

        def called(parts: Sequence[Any]) -> Any:
            return on_rows(seen, step.node, function, *parts)

        return _Work(function, lambda parts, _: called(parts), called)
    return _estimator_at_work(session, step, rows, seen)


def _estimator_at_work(session: Session, step: Step, rows: Rows, seen: Watched) -> _Work:
    folds, method = session.stacking(step.node)
    prefit = isinstance(folds, str) and folds == PREFIT
    estimator = session.prototype(step.node) if prefit else session.estimator(step.node, step.settings)
    params = session.fit_params(step.node, rows)
    if rows.weights.train is not None and routing():
        params |= routed(f"node {step.node!r}", estimator, "fit", rows.weights.train)

    def learn(parts: Sequence[Any], y: Any) -> Any:
        if prefit:
            return apply(parts)
        stack = _Stack(estimator, folds, method, seen)
        fit = partial(_fit_transform, estimator) if transforms(estimator) else stack.fit
        return on_rows(seen, step.node, fit, *parts, y, params)

    def apply(parts: Sequence[Any]) -> Any:
        return on_rows(seen, step.node, lambda part: passed_on(estimator, part, method=method), *parts)

    return _Work(estimator, learn, apply, method, fits=not prefit)


def _fit_transform(estimator: Any, X: Any, y: Any, params: dict[str, Any]) -> Any:  # noqa: N803
    if hasattr(estimator, "fit_transform"):
        return estimator.fit_transform(X, y, **params)
    return estimator.fit(X, y, **params).transform(X)


@dataclass(frozen=True, slots=True)
class _Stack:
    """Fits on all rows, and passes on predictions for each row by an estimator that has not seen it."""

    estimator: Any
    folds: Any
    method: str
    seen: Watched

    def fit(self, X: Any, y: Any, params: dict[str, Any]) -> Any:  # noqa: N803
        method = stack_method(self.estimator) if self.method == "auto" else self.method
        unfitted = clone(self.estimator)
        self.estimator.fit(X, y, **params)
        folds = check_cv(STACK_FOLDS if self.folds is None else self.folds, y, classifier=is_classifier(self.estimator))
        self.seen.inner_fits = folds.get_n_splits(X, y)
        predictions = cross_val_predict(unfitted, X, y, cv=folds, method=method, params=params or None)
        return stacked(method, predictions, getattr(self.estimator, "classes_", None))
