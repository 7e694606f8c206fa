"""The tables of a result: as `cv_results_`, of sweeps, of groups of cells. The one module that imports pandas."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from flaregate.errors import FlaregateError, Refused
from flaregate.ranking import Choose
from flaregate_wire.events import ErrorDetail
from flaregate_wire.planning.checks import suggestion
from flaregate_wire.problems import Code


class Row(Protocol):
    """What a table needs of an outcome."""

    @property
    def candidate(self) -> int: ...
    @property
    def path(self) -> tuple[str, ...]: ...
    @property
    def object(self) -> str | None: ...
    @property
    def axes(self) -> dict[Any, Any]: ...
    @property
    def params(self) -> dict[str, Any]: ...
    @property
    def scores(self) -> dict[str, Any] | None: ...
    @property
    def train_scores(self) -> dict[str, Any] | None: ...
    @property
    def metrics(self) -> dict[str, Any] | None: ...
    @property
    def times(self) -> dict[str, Any]: ...
    @property
    def iteration(self) -> int | None: ...
    @property
    def resources(self) -> int | None: ...
    @property
    def error(self) -> ErrorDetail | None: ...


class PandasMissing(FlaregateError):
    """A table needs pandas: pip install 'flaregate[data]'."""


def ranks(means: Sequence[float | None]) -> list[int]:
    """1 for the best; equal means share the better rank; without a mean last."""
    known = [-math.inf if mean is None or math.isnan(mean) else mean for mean in means]
    return [1 + sum(other > mean for other in known) for mean in known]


def cv_results(outcomes: Sequence[Row]) -> Any:
    """One row an outcome. Parameters that an outcome's path has not are missing values."""
    table = _frame([_row(outcome) for outcome in outcomes])
    for name in [column for column in table.columns if column.startswith("mean_test_")]:
        scores = table[name].tolist()
        table[name.replace("mean_test_", "rank_test_")] = ranks(scores)
    return table


def cells(outcomes: Sequence[Row]) -> Any:
    """One row a cell: its axes by the user's own keys, its metrics, its error."""
    several = len({outcome.path for outcome in outcomes}) > 1
    return _frame(
        [
            {"candidate": outcome.candidate}
            | ({"path": outcome.path} if several else {})
            | {_column(key): value for key, value in outcome.axes.items()}
            | _metrics(outcome)
            | {"error": _told(outcome.error)}
            for outcome in outcomes
        ]
    )


def groups(outcomes: Sequence[Row], by: Sequence[Any], choose: Choose | None) -> Any:
    """One row a group of cells with equal values on the axes of `by`, in order of their first cells."""
    keys = [by] if isinstance(by, str) else list(by)
    known = {name: None for outcome in outcomes for axes in (outcome.axes, outcome.params) for name in axes}
    for key in keys:
        if key not in known:
            message = f"group_by names {key!r}, which is no axis{suggestion(str(key), map(str, known))}"
            raise Refused(message, code=_REQUEST)
    members: dict[str, list[Row]] = {}
    for outcome in outcomes:
        members.setdefault(repr([_value(outcome, key) for key in keys]), []).append(outcome)
    table = _frame([_group(cells, keys, choose) for cells in members.values()])
    return table.astype({"best": "Int64"}) if "best" in table else table


def _group(outcomes: Sequence[Row], keys: Sequence[Any], choose: Choose | None) -> dict[str, Any]:
    row = {_column(key): _value(outcomes[0], key) for key in keys}
    whole = [outcome for outcome in outcomes if outcome.error is None]
    measured = [_numbers(outcome) for outcome in whole]
    for name in dict.fromkeys(name for numbers in measured for name in numbers):
        values = [numbers[name] for numbers in measured if name in numbers]
        row |= {f"{name}_mean": _mean(values), f"{name}_std": _std(values)}
    row |= {"n": len(whole), "failed": len(outcomes) - len(whole)}
    if choose is not None:
        best = choose(whole)
        row["best"] = None if best is None else best.candidate
    return row


def _numbers(outcome: Row) -> dict[str, float]:
    """What is measured of it: metrics, or the mean test score of each scorer."""
    if outcome.metrics is not None:
        return {name: float(value) for name, value in outcome.metrics.items()}
    return {
        f"mean_test_{name}": _mean([float(value) for value in values])
        for name, values in (outcome.scores or {}).items()
    }


def _value(outcome: Row, key: Any) -> Any:
    return outcome.axes[key] if key in outcome.axes else outcome.params.get(key)


def _column(key: Any) -> str:
    """An axis as the name of a column."""
    if isinstance(key, tuple):
        node, param = key
        return f"{getattr(node, 'name', node)}__{param}"
    return str(key)


def _metrics(outcome: Row) -> dict[str, Any]:
    taken = {_column(key) for key in outcome.axes}
    return {f"metric_{name}" if name in taken else name: value for name, value in (outcome.metrics or {}).items()}


def _frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    try:
        import pandas as pd  # noqa: PLC0415 - only where a table is asked for
    except ImportError as error:
        raise PandasMissing(str(PandasMissing.__doc__)) from error
    return pd.DataFrame(rows)


def _row(outcome: Row) -> dict[str, Any]:
    row: dict[str, Any] = {"candidate": outcome.candidate, "path": outcome.path}
    if outcome.object is not None:
        row["object"] = outcome.object
    if outcome.iteration is not None:
        row |= {"iter": outcome.iteration, "n_resources": outcome.resources}
    for kind in ("fit", "score"):
        folds = outcome.times.get(f"{kind}_folds")
        seconds = list(folds) if isinstance(folds, tuple | list) else None
        row[f"mean_{kind}_time"] = _mean(seconds) if seconds else outcome.times.get(kind)
        row[f"std_{kind}_time"] = _std(seconds) if seconds else None
    row.update({f"param_{name}": value for name, value in outcome.params.items()})
    row["params"] = outcome.params
    for part, scores in (("test", outcome.scores), ("train", outcome.train_scores)):
        for scorer, values in (scores or {}).items():
            row |= _of_folds(part, scorer, [float(value) for value in values])
    row["error"] = _told(outcome.error)
    return row


def _of_folds(part: str, scorer: str, numbers: Sequence[float]) -> dict[str, float]:
    folds = {f"split{fold}_{part}_{scorer}": value for fold, value in enumerate(numbers)}
    return {**folds, f"mean_{part}_{scorer}": _mean(numbers), f"std_{part}_{scorer}": _std(numbers)}


def _told(error: ErrorDetail | None) -> str | None:
    return None if error is None else f"{error.type}: {error.message}"


def _mean(values: Sequence[float]) -> float:
    import numpy as np  # noqa: PLC0415 - with pandas

    return float(np.mean(values))


def _std(values: Sequence[float]) -> float:
    import numpy as np  # noqa: PLC0415

    return float(np.std(values))


_REQUEST = Code.INVALID_REQUEST
