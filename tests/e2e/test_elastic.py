"""A worker is there only while it has tasks: work begins without it, it takes its part, and it goes before the job."""

import time

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris

import flaregate as fg
from flaregate_wire.events import AttemptEvent, OutcomeEvent
from flaregate_wire.states import State
from tests.conftest import supervisor, until


class _Slow(ClassifierMixin, BaseEstimator):
    def __init__(self, number=0):
        self.number = number

    def fit(self, X, y):
        time.sleep(8 if len(X) == 150 else 0.25)
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.repeat(self.classes_[0], len(X))


@pytest.mark.slow
def test_a_worker_goes_when_nothing_is_left_for_it(client):
    slow = type("Slow", (_Slow,), dict(_Slow.__dict__))
    pipe = fg.Pipeline("elastic")
    pipe.node("slow", slow())
    X, y = load_iris(return_X_y=True)
    axes = {"slow__number": list(range(60))}
    job = client.submit(pipe, X=X, y=y, axes=axes, cv=2, cpus=1, workers=1, cache="off", timeout=120)
    released = None
    order = []
    for event in job.events():
        if isinstance(event, AttemptEvent):
            order.append((event.phase, event.index))
        elif isinstance(event, OutcomeEvent):
            order.append(("outcome", 0))
        if isinstance(event, AttemptEvent) and event.phase == "released":
            released = event
            until(lambda: supervisor(job.id, 1) is None, 10)
            assert job.view().state is State.RUNNING, "the head still fits the best candidate"
    assert released is not None
    assert released.index == 1
    assert order.index(("outcome", 0)) < order.index(("joined", 1)), "work begins before the worker is there"
    result = job.result()
    assert {host.split()[0] for host in result.stats.hosts} == {"head", "worker"}
    view = job.view()
    head = (view.timeline["gone"] - view.timeline["launched"]).total_seconds()
    assert view.usage.vcpu_seconds < 2 * head - 4, "the worker is not paid for while the head refits"
