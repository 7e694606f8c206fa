"""What `verbose` prints of each fit, in the words of scikit-learn's own lines."""

from collections.abc import Mapping, Sequence
from typing import Any

from joblib.logger import short_format_time

from flaregate.sklearn.work import Evaluation

_WIDTH = 80
_EACH = 2
_SCORES = 3
_CANDIDATES = 10
"""From which `verbose` on each fit, its scores and its candidate's number are printed."""


def tell(evaluation: Evaluation, results: Sequence[Any]) -> None:
    """Print a line for each fit where `verbose` is 2 or more."""
    if evaluation.verbose >= _EACH:
        for pair, result in zip(evaluation.pairs(), results, strict=True):
            print(_line(evaluation, *pair, result))  # noqa: T201 - it is what `verbose` asks for


def _line(evaluation: Evaluation, candidate: int, fold: int, result: Mapping[str, Any]) -> str:
    verbose, given = evaluation.verbose, evaluation.candidates[candidate] or {}
    place = ""
    if verbose >= _SCORES and evaluation.candidates[candidate] is not None:
        place = f" {fold + 1}/{len(evaluation.folds)}"
        if verbose >= _CANDIDATES:
            place += f"; {candidate + 1}/{len(evaluation.candidates)}"
    said = ", ".join(f"{name}={given[name]}" for name in sorted(given)) + (";" if given else "")
    if verbose >= _SCORES:
        said += _scores(result)
    if "fit_time" in result:
        said += f" total time={short_format_time(result['fit_time'] + result['score_time'])}"
    begin = f"[CV{place}] END "
    return begin + said.rjust(_WIDTH - len(begin), ".")


def _scores(result: Mapping[str, Any]) -> str:
    test, train = result["test_scores"], result.get("train_scores")
    if isinstance(test, Mapping):
        both = {name: (None if train is None else train[name], score) for name, score in sorted(test.items())}
        return "".join(f" {name}: ({_pair(*pair)})" for name, pair in both.items())
    return f", score={test:.3f}" if train is None else f", score=({_pair(train, test)})"


def _pair(train: float | None, test: float) -> str:
    return f"test={test:.3f}" if train is None else f"train={train:.3f}, test={test:.3f}"
