"""A case of the suite as plain data: a pipeline, its rows, what is asked of it, and what must come out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flaregate.pipelines import Pipeline


@dataclass(frozen=True, slots=True)
class Part:
    """One node: an estimator or a function, or a join where there is no object."""

    name: str
    obj: Any = None
    sources: tuple[str, ...] = ()

    @property
    def join(self) -> bool:
        """Whether it waits for all its sources; else each of them is an alternative."""
        return self.obj is None


@dataclass(frozen=True, slots=True)
class Sketch:
    """A pipeline as plain data, sources before what they feed."""

    parts: tuple[Part, ...]

    def pipeline(self) -> Pipeline:
        """The same as users build it."""
        made = Pipeline("sketch")
        for part in self.parts:
            if part.join:
                made.join(part.name, part.sources)
            else:
                made.node(part.name, part.obj, after=part.sources)
        return made

    def part(self, name: str) -> Part:
        """The node of a name."""
        return next(part for part in self.parts if part.name == name)

    def place(self, name: str) -> int:
        """Its number in the order of definition."""
        return [part.name for part in self.parts].index(name)


Way = Mapping[str, tuple[str, ...]]
"""One path: what feeds each of its nodes."""
AxisKey = tuple[str, str]
Values = Mapping[AxisKey, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """A pipeline, its data and what is asked."""

    sketch: Sketch
    objects: Mapping[str | None, tuple[Any, Any]]
    """(X, y) of each source object; a single one is called None."""
    axes: Mapping[AxisKey, Sequence[Any]]
    cv: Any
    scoring: Any = None
    sample_weight: Any = None
    groups: Any = None
    return_train_score: bool = False
    error_score: float = float("nan")

    def options(self) -> dict[str, Any]:
        """The arguments of `submit`."""
        data: dict[str, Any] = {"objects": dict(self.objects)}
        if None in self.objects:
            data = dict(zip(("X", "y"), self.objects[None], strict=True))
        given = {"sample_weight": self.sample_weight, "groups": self.groups}
        return {
            **data,
            **{name: value for name, value in given.items() if value is not None},
            "action": "search" if self.axes else "cross_validate",
            **({"axes": self.axes, "refit": False} if self.axes else {}),
            "cv": self.cv,
            "scoring": self.scoring,
            "return_train_score": self.return_train_score,
            "error_score": self.error_score,
        }

    def fit_options(self) -> dict[str, Any]:
        """The arguments of `submit` that fit every path on all rows."""
        X, y = self.objects[None]
        weights = {} if self.sample_weight is None else {"sample_weight": self.sample_weight}
        return {"action": "fit", "X": X, "y": y, **weights}


@dataclass(frozen=True, slots=True)
class Expected:
    """What one candidate must give on one source object."""

    object: str | None
    path: tuple[str, ...]
    values: Values
    scores: Mapping[str, Sequence[float]]
    train_scores: Mapping[str, Sequence[float]] | None
    error: str | None
    """The class of the first error."""
    message: str = ""
