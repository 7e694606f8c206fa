"""What a step passes on comes into the store of a gateway on this machine, as a file where that can be, and back."""

import time

import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import flaregate as fg

X, Y = load_iris(return_X_y=True)


class _Slow(TransformerMixin, BaseEstimator):
    """Worth keeping."""

    def fit(self, X, y=None):
        time.sleep(0.6)
        return self

    def transform(self, X):
        return X


def search(client, costs, project):
    slow = type("Slow", (_Slow,), dict(_Slow.__dict__))()  # by value
    pipe = fg.Pipeline("kept")
    pipe.node("logistic", LogisticRegression(max_iter=500), after=pipe.node("slow", slow))
    axes = {"logistic__C": costs}
    return client.submit(pipe, action="search", X=X, y=Y, axes=axes, cv=2, refit=False, project=project, timeout=120)


@pytest.mark.parametrize("handed_over", [True, False])
def test_a_later_job_takes_what_a_step_passed_on(own_gateway, handed_over):
    if not handed_over:
        (own_gateway.home / "store" / "drops").rmdir()
    with own_gateway.client() as client:
        first = search(client, [0.1], "one")
        assert first.result().stats.fits["slow"] == 2
        told = "".join(first.logs())
        assert ("is sent, as it cannot be handed over" in told) == (not handed_over)
        again = search(client, [0.1, 1.0], "one").result()
        assert again.stats.fits == {"logistic": 2}
        assert again.stats.cached
    assert handed_over == (own_gateway.home / "store" / "drops").is_dir()
