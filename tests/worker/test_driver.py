"""The driver as the supervisor starts it: lines in, lines out, on a real Ray of head and worker."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin

from flaregate.pipelines import Pipeline
from flaregate_wire.events import OutcomeEvent
from flaregate_wire.states import Reason
from tests.worker.engine_runs import CLUSTER, Run, end_tree, ray_nodes, submitted
from worker_image.work import FROM_DRIVER, Finished, RayReady

RNG = np.random.RandomState(0)
X, Y = RNG.rand(3000, 200), RNG.rand(3000)
CANDIDATES = 20


class Slow(TransformerMixin, BaseEstimator):
    """Passes on rows that are too large to travel inline."""

    def __init__(self, seconds=0.0, factor=1.0):
        self.seconds = seconds
        self.factor = factor

    def fit(self, X, y=None):
        time.sleep(self.seconds)
        return self

    def transform(self, X):
        return X * self.factor

    def score(self, X, y):
        return float(X.sum())


class Driver:
    def __init__(self, environment):
        read, write = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "worker_image.driver", f"--report-fd={write}"],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, pass_fds=(write,),
        )  # fmt: skip
        os.close(write)
        self.reports = os.fdopen(read, encoding="utf-8")

    def tell(self, *messages):
        for message in messages:
            self.process.stdin.write(message.model_dump_json(by_alias=True) + "\n")
        self.process.stdin.flush()

    def said(self):
        for line in self.reports:
            yield FROM_DRIVER.validate_json(line)

    def run(self, during=lambda _: None):
        ran = Run(None)
        for message in self.said():
            if isinstance(message, Finished):
                ran.finished = message
            else:
                assert ran.finished is None
                ran.events.append(message.event)
                during(message.event)
        return ran

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.reports):
            pipe.close()


@pytest.fixture
def driver():
    started = []

    def start(environment=os.environ):
        started.append(Driver(environment))
        return started[-1]

    yield start
    for one in started:
        one.end()


@pytest.fixture
def nodes():
    with ray_nodes(1, 1) as nodes:
        yield nodes


def slow_search(folder):
    pipe = Pipeline()
    pipe.node("leaf", Slow(0.2), after=pipe.node("above", Slow(0.2)))
    axes = {"above__factor": [float(n) for n in range(1, CANDIDATES // 2 + 1)], "leaf__factor": [1.0, 2.0]}
    work = submitted(pipe, folder, X=X, y=Y, axes=axes, cv=2, refit=False)
    return work.model_copy(update={"cluster": CLUSTER.model_copy(update={"min_workers": 1})})


def test_a_lost_worker_costs_no_outcome_and_hosts_tell_head_from_worker(driver, nodes, tmp_path):
    started = driver(nodes.environment)
    started.tell(RayReady(address=nodes.address), slow_search(tmp_path / "job"))  # in whichever order they come
    seen = []

    def lose_the_worker(event):
        seen.extend([event] if isinstance(event, OutcomeEvent) else [])
        if len(seen) == CANDIDATES // 2 and nodes.started[1].poll() is None:
            end_tree(nodes.started[1])

    ran = started.run(lose_the_worker)
    assert ran.finished.succeeded, ran.finished
    assert ran.finished.reason is None
    assert len(ran.outcomes) == CANDIDATES
    folds = np.array_split(np.arange(len(X)), 2)
    expected = [[X[rows].sum() * factor for rows in folds] for factor in range(1, CANDIDATES // 2 + 1) for _ in "12"]
    np.testing.assert_allclose(ran.scores(), expected, rtol=1e-9)
    assert ran.result.stats.fits == {"above": CANDIDATES, "leaf": 2 * CANDIDATES}
    assert {host.split()[0] for host in ran.result.stats.hosts} == {"head", "worker"}
    assert len(ran.result.stats.hosts) == 2


def test_too_few_workers_end_the_job_after_the_deadline(driver, tmp_path):
    with ray_nodes(1) as nodes:
        started = driver(nodes.environment)
        work = slow_search(tmp_path / "job").model_copy(update={"join_deadline": 1.0})
        started.tell(work, RayReady(address=nodes.address))
        ran = started.run()
    assert ran.finished.reason is Reason.WORKERS_NOT_JOINED
    assert "0 of the 1 workers" in ran.finished.message
    assert not ran.events


def test_a_driver_whose_supervisor_goes_away_ends(driver):
    started = driver()
    started.process.stdin.close()
    assert started.process.wait(30) == 1
    started.process.stdin = open(os.devnull)  # noqa: SIM115, PTH123 - closed with the other pipes
