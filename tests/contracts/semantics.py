"""What the tests of semantics compare with, and an estimator that fails, warns or is slow as it is told."""

import time
import warnings

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

RTOL = 1e-12


def same(given, expected):
    np.testing.assert_allclose(given, expected, rtol=RTOL, atol=RTOL)


def scores(result, scorer="score"):
    return [outcome.scores[scorer] for outcome in result.outcomes]


class Moody(ClassifierMixin, BaseEstimator):
    """Fails where its mood says so."""

    def __init__(self, mood="good"):
        self.mood = mood

    def fit(self, X, y):
        if self.mood == "bad":
            raise ArithmeticError("in a bad mood")
        if self.mood == "loud":
            warnings.warn("this is loud", UserWarning, stacklevel=1)
        if self.mood == "slow":
            time.sleep(60)
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])
