"""The table of a result: pandas, in the shape of scikit-learn's `cv_results_`. The one module that imports pandas."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

from flaregate.errors import FlaregateError
from flaregate_wire.events import ErrorDetail


class Row(Protocol):
    """What a table needs of an outcome."""

    @property
    def candidate(self) -> int: ...
    @property
    def path(self) -> tuple[str, ...]: ...
    @property
    def params(self) -> dict[str, Any]: ...
    @property
    def scores(self) -> dict[str, Any] | None: ...
    @property
    def train_scores(self) -> dict[str, Any] | None: ...
    @property
    def times(self) -> dict[str, Any]: ...
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
    try:
        import pandas as pd  # noqa: PLC0415 - only where a table is asked for
    except ImportError as error:
        raise PandasMissing(str(PandasMissing.__doc__)) from error
    table = pd.DataFrame([_row(outcome) for outcome in outcomes])
    for name in [column for column in table.columns if column.startswith("mean_test_")]:
        scores = table[name].tolist()
        table[name.replace("mean_test_", "rank_test_")] = ranks(scores)
    return table


def _row(outcome: Row) -> dict[str, Any]:
    row: dict[str, Any] = {"candidate": outcome.candidate, "path": outcome.path}
    for kind in ("fit", "score"):
        folds = outcome.times.get(f"{kind}_folds")
        seconds = list(folds) if isinstance(folds, tuple | list) else None
        row[f"mean_{kind}_time"] = _mean(seconds) if seconds else outcome.times.get(kind)
        row[f"std_{kind}_time"] = _std(seconds) if seconds else None
    row.update({f"param_{name}": value for name, value in outcome.params.items()})
    row["params"] = outcome.params
    for part, scores in (("test", outcome.scores), ("train", outcome.train_scores)):
        for scorer, values in (scores or {}).items():
            numbers = [float(value) for value in values]
            row.update({f"split{fold}_{part}_{scorer}": value for fold, value in enumerate(numbers)})
            row[f"mean_{part}_{scorer}"] = _mean(numbers)
            row[f"std_{part}_{scorer}"] = _std(numbers)
    row["error"] = None if outcome.error is None else f"{outcome.error.type}: {outcome.error.message}"
    return row


def _mean(values: Sequence[float]) -> float:
    import numpy as np  # noqa: PLC0415 - with pandas

    return float(np.mean(values))


def _std(values: Sequence[float]) -> float:
    import numpy as np  # noqa: PLC0415

    return float(np.std(values))
