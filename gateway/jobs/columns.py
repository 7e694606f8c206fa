"""Outcomes as flat rows: which columns there are, of which type, and what stands in them. Pure.

Names are those of the SDK's tables: scikit-learn's `cv_results_` for what has folds, the user's own keys in a sweep.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from flaregate_wire.definitions import Action, JobDefinition

Type = Literal["int", "float", "bool", "text", "json", "time"]
Row = dict[str, Any]
Outcome = Mapping[str, Any]
"""An outcome event, as its JSON says."""
_INT64 = range(-(2**63), 2**63)
_HEAD: dict[str, Type] = {"candidate": "int", "object": "text", "path": "json", "iteration": "int", "resources": "int"}
_TIMES = tuple(f"{what}_{kind}_time" for kind in ("fit", "score") for what in ("mean", "std"))
_TAIL: dict[str, Type] = {
    "mean": "float",
    "std": "float",
    "error_type": "text",
    "error_message": "text",
    "cached": "bool",
    "attempt": "int",
    "time": "time",
    **dict.fromkeys(_TIMES, "float"),
    "artifact": "text",
    "output": "json",
    "warnings": "json",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A name and what stands below it; every value may be missing."""

    name: str
    type: Type


def plain(value: Any) -> Any:
    """A typed value of the wire as the number that it is, where it is one."""
    match value:
        case {"$float": str(number)}:
            return float(number)
        case {"$scalar": [_, number]}:
            return plain(number)
        case _:
            return value


def mean(values: Sequence[float]) -> float:
    """As numpy.mean."""
    try:
        return math.fsum(values) / len(values) if values else math.nan
    except (ValueError, OverflowError):  # both infinities
        return math.nan


def std(values: Sequence[float]) -> float:
    """As numpy.std: over all, not a sample."""
    middle = mean(values)
    if not math.isfinite(middle):
        return math.nan
    return math.sqrt(mean([(value - middle) ** 2 for value in values]))


@dataclass(slots=True)
class Spread:
    """Mean and deviation of numbers that come one by one (Welford, Technometrics 4 (1962), 419)."""

    count: int = 0
    mean: float = 0.0
    _squares: float = 0.0

    def add(self, number: float) -> None:
        """One more."""
        self.count += 1
        away = number - self.mean
        self.mean += away / self.count
        self._squares += away * (number - self.mean)

    @property
    def std(self) -> float:
        """Over all, as numpy.std."""
        return math.sqrt(self._squares / self.count) if self.count else math.nan


@dataclass(slots=True)
class Kind:
    """The type that fits all values seen."""

    type: Type | None = None

    def add(self, value: Any) -> None:
        """One more."""
        found = _type_of(value)
        if found is None or found == self.type:
            return
        both = {found, self.type}
        self.type = found if self.type is None else "float" if both == {"int", "float"} else "json"


def _type_of(value: Any) -> Type | None:
    match value:
        case None:
            return None
        case bool():
            return "bool"
        case int():
            return "int" if value in _INT64 else "json"
        case float():
            return "float"
        case str():
            return "text"
        case _:
            return "json"


def cell(value: Any, kind: Type) -> Any:
    """The value as the column has it."""
    if value is None:
        return None
    if kind == "json":
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return float(value) if kind == "float" else value


def axis_names(definition: JobDefinition) -> dict[tuple[str, str], str]:
    """What an axis is called by its user; a search's has no other name than its place."""
    return {(axis.node, axis.param): axis.key or f"{axis.node}__{axis.param}" for axis in definition.axes}


def numbers(outcome: Outcome) -> dict[str, float]:
    """What is measured of it: metrics, or the mean test score of each scorer."""
    if outcome.get("metrics") is not None:
        return {name: float(plain(value)) for name, value in outcome["metrics"].items()}
    return {f"mean_test_{name}": mean(_floats(values)) for name, values in (outcome.get("scores") or {}).items()}


def _floats(values: Iterable[Any]) -> list[float]:
    return [float(plain(value)) for value in values]


@dataclass(slots=True)
class Shape:
    """Which columns the outcomes of a job have; it is shown each of them once."""

    definition: JobDefinition
    _axes: dict[tuple[str, str], Kind] = field(default_factory=dict)
    _folds: dict[tuple[str, str], int] = field(default_factory=dict)
    _metrics: dict[str, Kind] = field(default_factory=dict)
    _names: dict[tuple[str, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._names = axis_names(self.definition)
        self._axes = {place: Kind() for place in self._names}

    def add(self, outcome: Outcome) -> None:
        """One more."""
        for node, param, value in outcome.get("axes", ()):
            self._axes.setdefault((node, param), Kind()).add(plain(value))
        for part, scorer, values in _scores(outcome):
            self._folds[part, scorer] = max(self._folds.get((part, scorer), 0), len(values))
        for name, value in (outcome.get("metrics") or {}).items():
            self._metrics.setdefault(name, Kind()).add(plain(value))

    def types(self) -> dict[str, Type]:
        """Of all columns, in order; what is shown afterwards does not count."""
        axes = {self._axis(place): kind.type or "text" for place, kind in self._axes.items()}
        metrics = {self._metric(name): kind.type or "float" for name, kind in self._metrics.items()}
        return {**_HEAD, **axes, **self._scored(), **metrics, **_TAIL}

    def _scored(self) -> dict[str, Type]:
        found: dict[str, Type] = {}
        for (part, scorer), folds in sorted(self._folds.items(), key=lambda item: item[0][0]):
            found |= dict.fromkeys([*_split_names(part, scorer, folds), *_summary(part, scorer)], "float")
        return found

    def _axis(self, place: tuple[str, str]) -> str:
        """`param_node__parameter`, as in `cv_results_`; in a sweep the user's own key, unless another column has it."""
        if self.definition.action is not Action.SWEEP:
            return f"param_{place[0]}__{place[1]}"
        name = self._names.get(place, "__".join(place))
        return f"axis_{name}" if name in _HEAD or name in _TAIL else name

    def _metric(self, name: str) -> str:
        taken = {*_HEAD, *_TAIL, *map(self._axis, self._axes)}
        return f"metric_{name}" if name in taken else name

    def row(self, outcome: Outcome, types: Mapping[str, Type]) -> Row:
        """What stands in the columns; those that it has not are left out."""
        found: Row = {name: outcome.get(name) for name in (*_HEAD, *_TAIL) if name in outcome}
        found |= {name: plain(found[name]) for name in ("mean", "std") if name in found}
        found |= {self._axis((node, param)): plain(value) for node, param, value in outcome.get("axes", ())}
        found |= {self._metric(name): plain(value) for name, value in (outcome.get("metrics") or {}).items()}
        for part, scorer, values in _scores(outcome):
            folds = _floats(values)
            found |= dict(zip(_split_names(part, scorer, len(folds)), folds, strict=True))
            found |= dict(zip(_summary(part, scorer), (mean(folds), std(folds)), strict=True))
        found |= dict(_times(outcome.get("times") or {}))
        if outcome.get("error"):
            found |= {"error_type": outcome["error"]["type"], "error_message": outcome["error"]["message"]}
        found["cached"] = outcome.get("cached", False)
        return {name: cell(value, types[name]) for name, value in found.items()}


def _scores(outcome: Outcome) -> Iterator[tuple[str, str, Sequence[Any]]]:
    for part, name in (("test", "scores"), ("train", "train_scores")):
        for scorer, values in (outcome.get(name) or {}).items():
            yield part, scorer, values


def _split_names(part: str, scorer: str, folds: int) -> list[str]:
    return [f"split{fold}_{part}_{scorer}" for fold in range(folds)]


def _summary(part: str, scorer: str) -> tuple[str, str]:
    return f"mean_{part}_{scorer}", f"std_{part}_{scorer}"


def _times(times: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for kind in ("fit", "score"):
        folds = times.get(f"{kind}_folds")
        if folds:
            yield f"mean_{kind}_time", mean(folds)
            yield f"std_{kind}_time", std(folds)
        elif kind in times:
            yield f"mean_{kind}_time", times[kind]
