"""Estimators and functions of the fixed cases. In whatever process they run, they leave marks in a folder."""

import os
import signal
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin

FILE = "marks"


def mark(folder: str, word: str) -> None:
    """Add a line; short ones of several processes do not mix."""
    with (Path(folder) / FILE).open("a", encoding="utf-8") as marks:
        marks.write(word + "\n")


def marks_in(folder: Path) -> Counter[str]:
    """How often each line was written."""
    path = folder / FILE
    return Counter(path.read_text(encoding="utf-8").splitlines()) if path.exists() else Counter()


class Marking(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Passes rows on; marks each fit with its shift and its number of rows."""

    def __init__(self, folder: str = "", shift: float = 0.0) -> None:
        self.folder = folder
        self.shift = shift

    def fit(self, X: Any, y: Any = None) -> "Marking":
        """Mark it."""
        mark(self.folder, f"fit {self.shift} {X.shape[0]}")
        self.fitted_ = True
        return self

    def transform(self, X: Any) -> Any:
        """Rows with the shift added."""
        return X + self.shift


class Majority(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Predicts the most frequent class; marks each predict with its number of rows. It may warn or end its process."""

    def __init__(self, folder: str = "", way: str = "quiet") -> None:
        self.folder = folder
        self.way = way

    def fit(self, X: Any, y: Any) -> "Majority":
        """Find it."""
        mark(self.folder, f"fit {self.way}")
        if self.way == "loud":
            warnings.warn("this is loud", UserWarning, stacklevel=2)
        if self.way == "exit":
            os._exit(3)
        if self.way == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        self.classes_, counts = np.unique(y, return_counts=True)
        self.most_ = self.classes_[np.argmax(counts)]
        return self

    def predict(self, X: Any) -> Any:
        """The same for each row."""
        mark(self.folder, f"predict {X.shape[0]}")
        return np.full(X.shape[0], self.most_)


class Spoiler(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Writes into what it is given."""

    def fit(self, X: Any, y: Any = None) -> "Spoiler":
        """Learn nothing."""
        self.fitted_ = True
        return self

    def transform(self, X: Any) -> Any:
        """Its input with the first column emptied, in place."""
        X[:, 0] = 0.0
        return X


class Careless(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Writes into its targets, its weights and the rows that it predicts: all of them copies in scikit-learn."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Careless":
        """Count each class, by weight."""
        sample_weight *= 2.0
        self.classes_, y[:] = np.unique(y, return_inverse=True)
        self.middle_ = np.average(X[:, 0], weights=sample_weight)
        return self

    def predict(self, X: Any) -> Any:
        """The second class for rows beyond the middle."""
        X -= self.middle_
        return self.classes_[(X[:, 0] > 0).astype(int)]


class Configured(BaseEstimator):  # type: ignore[misc]
    """Its score says under which configuration of scikit-learn it ran."""

    def fit(self, X: Any, y: Any = None) -> "Configured":
        """See how it is."""
        self.finite_ = bool(get_config()["assume_finite"])
        return self

    def score(self, X: Any, y: Any = None) -> float:
        """1 where finite rows were assumed while fitting, and 2 more while scoring."""
        return float(self.finite_) + 2.0 * bool(get_config()["assume_finite"])


def explain(X: Any) -> Any:
    """As an explainer works: each row by itself."""
    return np.exp(-np.abs(X)) / (1.0 + X**2)


def cell(task: str = "a", seed: int = 0, lr: float = 0.1, way: str = "exit") -> dict[str, float]:
    """A sweep's cell: numbers that depend on all its axes; one raises, and one ends its process where it may."""
    if (task, seed) == ("b", 1):
        raise ArithmeticError("this cell fails")
    if (task, seed) == ("a", 2) and way == "exit":
        os._exit(3)
    return {"accuracy": seed + 10 * lr + len(task), "loss": lr / (1 + seed)}
