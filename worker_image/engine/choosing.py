"""The best candidate by a function of the user's own: `refit` of a search, called with a table like `cv_results_`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from flaregate_wire.events import OutcomeEvent
from worker_image.engine.outcomes import plain
from worker_image.engine.session import Session


def rows_of(outcomes: Sequence[OutcomeEvent]) -> list[dict[str, Any]]:
    """What the table needs of each outcome, in plain data; parameters as typed values."""
    found: list[dict[str, Any]] = []
    for outcome in outcomes:
        row: dict[str, Any] = {"params": {f"{node}__{param}": value for node, param, value in outcome.axes}}
        for kind in ("fit", "score"):
            row[f"{kind}_time"] = list(outcome.times[f"{kind}_folds"])  # type: ignore[arg-type]
        for part, scores in (("test", outcome.scores), ("train", outcome.train_scores)):
            row |= {f"{part}_{name}": [plain(value) for value in values] for name, values in (scores or {}).items()}
        found.append(row)
    return found


def choose(session: Session, rows: Sequence[Mapping[str, Any]]) -> int:
    """Call the user's function. Raises what it raises, and IndexError for a place that no candidate has."""
    with session.configured():
        place = int(session.choice()(_table(session, rows)))
    if not 0 <= place < len(rows):
        raise IndexError(f"refit gave {place}; there are {len(rows)} candidates")
    return place


def _table(session: Session, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    params = [{name: session.value(value) for name, value in row["params"].items()} for row in rows]
    table: dict[str, Any] = {"params": params}
    for name in dict.fromkeys(name for own in params for name in own):
        values = [own.get(name) for own in params]
        table[f"param_{name}"] = np.ma.masked_array(
            np.empty(len(rows), object), mask=[name not in own for own in params]
        )
        table[f"param_{name}"][:] = values
    for name in (name for name in rows[0] if name != "params"):
        numbers = np.asarray([row[name] for row in rows])
        if not name.endswith("_time"):
            table |= {f"split{fold}_{name}": numbers[:, fold] for fold in range(numbers.shape[1])}
        table[f"mean_{name}"], table[f"std_{name}"] = numbers.mean(axis=1), numbers.std(axis=1)
        if name.startswith("test_"):
            means = np.nan_to_num(table[f"mean_{name}"], nan=-np.inf)
            table[f"rank_{name}"] = rankdata(-means, method="min").astype(np.int32)
    return table
