"""Random pipelines on a runner: what it gives equals the naive evaluation, and nothing is fitted twice."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, assume, given, settings

from flaregate.outcomes import Outcome
from flaregate.submission import JobOptions, prepare
from flaregate.testing.case import Case, Expected
from flaregate.testing.naive import evaluate, fit_counts, fitted
from flaregate.testing.ran import Ran, RunJob
from flaregate.testing.strategies import cases

RTOL = 1e-12
EXAMPLES = 40


def run_case(run: RunJob, case: Case, **options: Any) -> Ran:
    """Submit a case to a runner, in a folder that is gone afterwards."""
    submission = prepare(case.sketch.pipeline(), JobOptions(**{**case.options(), **options}))
    with TemporaryDirectory(prefix="flaregate-") as folder:
        return run(submission, Path(folder))


def check_random_searches(run: RunJob, examples: int = EXAMPLES) -> None:
    """Cross-validations and searches of random pipelines."""

    @_seeded(examples)
    @given(cases())
    def check(case: Case) -> None:
        ran, expected = run_case(run, case), evaluate(case)
        agree(ran, case, expected)
        if all(one.error is None for one in expected):
            assert ran.stats.fits == fit_counts(case), "a prefix is fitted once a fold"

    check()


def check_random_fits(run: RunJob, examples: int = EXAMPLES) -> None:
    """Random pipelines fitted on all rows; the files that they leave predict what scikit-learn's do."""

    @_seeded(examples)
    @given(cases())
    def check(case: Case) -> None:
        assume(None in case.objects and not any(param == "mood" for _, param in case.axes))
        submission = prepare(case.sketch.pipeline(), JobOptions(**case.fit_options()))
        with TemporaryDirectory(prefix="flaregate-") as folder:
            ran = run(submission, Path(folder))
            X, _ = case.objects[None]
            for outcome, (path, model, error) in zip(ran.outcomes, fitted(case), strict=True):
                given = (outcome.path, outcome.error and outcome.error.type)
                assert given == (path, error), f"{outcome.error}, expected {error} of {path}"
                if model is not None:
                    _close(outcome.pipeline().predict(X), model.predict(X), f"predictions of {path}")

    check()


def agree(ran: Ran, case: Case, expected: Sequence[Expected]) -> None:
    """Raise AssertionError where a job gave anything but what was expected, in another order, or more or less."""
    for name in case.objects:
        given = [outcome for outcome in ran.outcomes if outcome.object == name]
        wanted = [one for one in expected if one.object == name]
        assert [(outcome.path, outcome.axes) for outcome in given] == [(one.path, _axes(one, case)) for one in wanted]
        for outcome, one in zip(given, wanted, strict=True):
            _agree(outcome, one)
    assert len(ran.outcomes) == len(expected)


def _axes(one: Expected, case: Case) -> dict[Any, Any]:
    return {key: one.values[key] for key in case.axes if key in one.values}


def _agree(outcome: Outcome, one: Expected) -> None:
    where = f"{one.path} with {dict(one.values)} on {one.object}"
    assert (outcome.error and outcome.error.type) == one.error, f"{where}: {outcome.error}, expected {one.message}"
    _same_scores(outcome.scores, one.scores, where)
    _same_scores(outcome.train_scores, one.train_scores, f"{where}, training rows")
    if len(one.scores) == 1:
        _close(outcome.mean, np.mean(one.scores["score"]), f"mean of {where}")
        _close(outcome.std, np.std(one.scores["score"]), f"deviation of {where}", rtol=1e-9)


def _same_scores(given: Mapping[str, Any] | None, wanted: Mapping[str, Any] | None, where: str) -> None:
    assert (given is None) == (wanted is None), where
    for name, folds in (wanted or {}).items():
        _close((given or {})[name], folds, f"{name} of {where}")
    assert list(given or {}) == list(wanted or {}), where


def _close(given: Any, wanted: Any, where: str, rtol: float = RTOL) -> None:
    np.testing.assert_allclose(given, wanted, rtol=rtol, atol=RTOL, err_msg=where)


def _seeded(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],  # cases are small; making one smaller takes minutes
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
