"""One step above the leaves on one fold: what it passes on for training rows and for test rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv, cross_val_predict

from flaregate.parts import combine, passed_on, stack_method, stacked, transforms
from flaregate_wire.definitions import FunctionNode, JoinNode
from flaregate_wire.planning import Step
from worker_image.engine.rows import Parts, frozen
from worker_image.engine.running import Stopwatch, Watched, on_rows, watched
from worker_image.engine.session import Session
from worker_image.engine.tasks import Report, Task

STACK_FOLDS = 5
"""As StackingClassifier(cv=None)."""


@dataclass(frozen=True, slots=True)
class _Node:
    """One node at work: what it learns and gives for training rows, what it gives for others."""

    state: Any
    learn: Callable[[Sequence[Any], Any], Any]
    apply: Callable[[Sequence[Any]], Any]


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step made. Nothing is passed on after an error."""

    parts: Parts | None
    state: Any
    report: Report


def run_step(session: Session, task: Task, inputs: Sequence[Parts]) -> StepResult:
    """Run a task above the leaves."""
    state: Any = None
    parts: Parts | None = None
    fit_time = score_time = 0.0
    with session.configured(), watched() as seen:
        X, y = session.rows(task.fold)  # noqa: N806 - scikit-learn's names
        sources = inputs or (X,)
        watch = Stopwatch()
        node = _at_work(session, task.step, seen)
        state = node.state
        train = frozen(node.learn([source.train for source in sources], y.train))
        fit_time = watch.lap()
        test = frozen(node.apply([source.test for source in sources])) if X.test is not None else None
        score_time = watch.lap()
        parts = Parts(train, test)
    report = Report(
        error=seen.error,
        fit_time=fit_time,
        score_time=score_time,
        warnings=seen.warnings,
        fitted=session.node(task.step.node).kind == "estimator",
        inner_fits=seen.inner_fits,
        notes=tuple(seen.notes),
    )
    return StepResult(parts, state, report)


def _at_work(session: Session, step: Step, seen: Watched) -> _Node:
    given = session.node(step.node)
    if isinstance(given, JoinNode):
        state = session.prototype(step.node)

        def joined(parts: Sequence[Any]) -> Any:
            return combine(parts, given.of) if state is None else state(list(parts))

        return _Node(state, lambda parts, _: joined(parts), joined)
    if isinstance(given, FunctionNode):
        function = session.function(step.node, step.settings)

        def called(parts: Sequence[Any]) -> Any:
            return on_rows(seen, step.node, function, *parts)

        return _Node(function, lambda parts, _: called(parts), called)
    estimator = session.estimator(step.node, step.settings)
    fit = _fit_transform if transforms(estimator) else _fit_stacked

    def learned(parts: Sequence[Any], y: Any) -> Any:
        return on_rows(seen, step.node, lambda rows: fit(estimator, rows, y, seen), *parts)

    def applied(parts: Sequence[Any]) -> Any:
        return on_rows(seen, step.node, lambda rows: passed_on(estimator, rows), *parts)

    return _Node(estimator, learned, applied)


def _fit_transform(estimator: Any, X: Any, y: Any, _: Watched) -> Any:  # noqa: N803
    if hasattr(estimator, "fit_transform"):
        return estimator.fit_transform(X, y)
    return estimator.fit(X, y).transform(X)


def _fit_stacked(estimator: Any, X: Any, y: Any, seen: Watched) -> Any:  # noqa: N803
    """Fit on all rows, and pass on predictions for each row by an estimator that has not seen it."""
    method = stack_method(estimator)
    estimator.fit(X, y)
    folds = check_cv(STACK_FOLDS, y, classifier=is_classifier(estimator))
    seen.inner_fits = folds.get_n_splits(X, y)
    predictions = cross_val_predict(clone(estimator), X, y, cv=folds, method=method)
    return stacked(method, predictions, getattr(estimator, "classes_", None))
