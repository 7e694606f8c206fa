"""Rows on their way between nodes: read-only views for user code, or copies of its own; and the rows of one cut."""

from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sklearn.utils import _safe_indexing, resample

from flaregate.fitted_file import FittedNode
from worker_image.engine.tasks import ALL_ROWS, Cut


@dataclass(frozen=True, slots=True)
class Parts:
    """Training and test rows as one node passes them on; nothing to test where all rows train."""

    train: Any
    test: Any = None
    again: Any = None
    """The training rows as rows that are new, where they are scored too and that differs."""
    fitted: tuple[FittedNode, ...] = ()
    """The fitted nodes behind these rows, where a scorer wants to see the whole pipeline."""

    @property
    def seen(self) -> Any:
        """The training rows as a fitted node takes them."""
        return self.train if self.again is None else self.again


@dataclass(frozen=True, slots=True)
class Source:
    """One source object: its rows and its folds."""

    X: Any
    y: Any = None
    weights: Any = None
    """`sample_weight`, one a row."""
    folds: tuple[tuple[Any, Any], ...] = ()
    """Row numbers to train on and to test on."""
    name: str | None = None

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return 0 if self.X is None else int(self.X.shape[0]) if hasattr(self.X, "shape") else len(self.X)


class Rows:
    """The rows of one cut, each kind cut when it is first asked for."""

    def __init__(self, source: Source, cut: Cut, seed: int | None) -> None:
        self._source = source
        self._seed = seed
        self.cut = cut

    @cached_property
    def numbers(self) -> tuple[Any, Any]:
        """Row numbers to train on and to test on; nothing where all rows train."""
        if self.cut.fold == ALL_ROWS:
            return None, None
        train, test = self._source.folds[self.cut.fold]
        if not self.cut.resources:
            return train, test
        share = self.cut.resources / self._source.rows
        return self._sampled(train, share), self._sampled(test, share)

    def _sampled(self, numbers: Any, share: float) -> Any:
        """As scikit-learn's successive halving draws: without replacement, the same for every candidate."""
        return resample(numbers, replace=False, random_state=self._seed, n_samples=int(share * len(numbers)))

    @cached_property
    def X(self) -> Parts:  # noqa: N802 - scikit-learn's name
        """The rows themselves."""
        return self._parts(self._source.X)

    @cached_property
    def y(self) -> Parts:
        """The targets."""
        return self._parts(self._source.y)

    @cached_property
    def weights(self) -> Parts:
        """`sample_weight`."""
        return self._parts(self._source.weights)

    def _parts(self, rows: Any) -> Parts:
        train, test = self.numbers
        if rows is None or train is None:
            return Parts(frozen(rows))
        return Parts(frozen(_safe_indexing(rows, train)), frozen(_safe_indexing(rows, test)))


def frozen(rows: Any) -> Any:
    """The same rows, read-only as far as their kind allows; a frame or list shares nothing that a write would reach."""
    flags = getattr(rows, "flags", None)
    if flags is not None and hasattr(flags, "writeable"):
        if not flags.writeable:
            return rows
        view = rows.view()
        view.flags.writeable = False
        return view
    if hasattr(rows, "iloc"):
        return rows.copy(deep=False)  # pandas copies on write
    if isinstance(rows, list):
        return list(rows)
    if type(rows) is dict:  # parameters of a fit
        return {name: frozen(value) for name, value in rows.items()}
    for name in ("data", "indices", "indptr"):  # a sparse matrix
        array: Any = getattr(rows, name, None)
        if hasattr(array, "setflags"):
            array.setflags(write=False)
    return rows


def is_frozen(rows: Any) -> bool:
    """Whether a write into an array or a sparse matrix would fail."""
    flags = getattr(getattr(rows, "data", None) if hasattr(rows, "indices") else rows, "flags", None)
    return not getattr(flags, "writeable", True)


def writable(rows: Any) -> Any:
    """A copy that may be written to."""
    if type(rows) is dict:
        return {name: writable(value) for name, value in rows.items()}
    copy = getattr(rows, "copy", None)
    return copy() if callable(copy) else deepcopy(rows)
