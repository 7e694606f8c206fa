"""Warm heads: consecutive jobs of an open embedded client share one head, and nothing is left when it is closed."""

import json
import time

import numpy as np
import psutil
import pytest
from sklearn.base import BaseEstimator
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import flaregate as fg
from flaregate_wire.states import State
from tests.conftest import until

X, Y = load_iris(return_X_y=True)


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("FLAREGATE_URL", "FLAREGATE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path / "home"
    assert processes(tmp_path / "home") == []


def processes(home):
    """Every living process of a home's gateway and containers."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            ours = environment.get("FLAREGATE_HOME") == str(home)
            if ours or environment.get("FLAREGATE_RUN", "").startswith(f"{home}/"):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return [one for one in found if one.status() != psutil.STATUS_ZOMBIE]


def head(home, job):
    """The process id of the head of a job's last attempt."""
    (run,) = [json.loads(path.read_text()) for path in home.glob(f"runs/{job.id}-*/0.json")]
    return run["pid"]


def rays(pid):
    """The processes of Ray's control store below a head."""
    return [one.pid for one in psutil.Process(pid).children(recursive=True) if one.name().startswith("gcs_server")]


def search(client, costs=(1.0, 10.0), **options):
    pipe = fg.Pipeline("warm")
    pipe.node("svc", SVC(), after=pipe.node("scale", StandardScaler()))
    return client.submit(pipe, action="search", X=X, y=Y, axes={"svc__C": list(costs)}, cv=5, timeout=120, **options)


def means(result):
    return [outcome.mean for outcome in result.outcomes]


def test_consecutive_jobs_share_a_head_and_time_between_them_is_not_billed(home):
    with fg.Client(home=home) as client:
        first = search(client)
        expected = GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": [1.0, 10.0, 100.0]}, cv=5).fit(X, Y)
        expected = list(expected.cv_results_["mean_test_score"])
        np.testing.assert_allclose(means(first.result()), expected[:2], rtol=1e-12)
        pid = head(home, first)
        used = first.usage().vcpu_seconds
        time.sleep(1.5)
        assert first.usage().vcpu_seconds == used
        view = first.view()
        assert used <= view.cluster.cpus * ((view.timeline["gone"] - view.timeline["queued"]).total_seconds() + 0.1)

        second = search(client, (1.0, 100.0), cache="off")
        np.testing.assert_allclose(means(second.result()), [expected[0], expected[2]], rtol=1e-12)
        assert head(home, second) == pid
        assert rays(pid) == [], "jobs as small as these need no Ray"
        timeline = second.view().timeline
        assert (timeline["booted"] - timeline["launched"]).total_seconds() < 1.0
        assert list(second.logs()) == []
        model = second.result().best.pipeline()
        assert model.score(X, Y) > 0.9


class Slow(BaseEstimator):
    """Says that it is fitted, and takes its time."""

    def __init__(self, seconds=0.1, tag=0):
        self.seconds = seconds
        self.tag = tag

    def fit(self, X, y):
        print("fitting", self.tag, flush=True)
        time.sleep(self.seconds)
        return self

    def score(self, X, y):
        return float(self.tag)


def test_jobs_that_need_ray_find_the_same_one_and_have_their_own_logs(home):
    with fg.Client(home=home) as client:
        pids = set()
        for base in (0, 1000):
            pipe = fg.Pipeline("slow")
            pipe.node("slow", Slow(), memory=50_000_000)  # only Ray keeps memory free
            tags = list(range(base, base + 8))
            job = client.submit(
                pipe, action="search", X=X, y=Y, axes={"slow__tag": tags}, cv=3, refit=False, timeout=150
            )
            result = job.result()
            assert means(result) == tags
            logged = sorted(int(line.split()[1]) for line in job.logs() if line.startswith("fitting"))
            assert logged == sorted(tags * 3)
            pids.add(head(home, job))
        assert result.stats.runner == "RayRunner"
        assert len(pids) == 1
        (pid,) = pids
        assert len(rays(pid)) == 1


def test_the_first_job_has_the_head_that_started_with_the_gateway(home):
    with fg.Client(home=home) as client:
        (spare,) = home.glob("runs/spare-*/0.json")
        job = search(client)
        job.result()
        assert head(home, job) == json.loads(spare.read_text())["pid"]
    with fg.Client(home=home, warm=0) as client:
        client.jobs()
        assert list(home.glob("runs/spare-*/0.json")) == [spare]


def test_a_job_that_needs_ray_finds_it_on_a_head_whose_first_job_did_not(home):
    with fg.Client(home=home) as client:
        first = search(client)
        first.result()
        pipe = fg.Pipeline("slow")
        pipe.node("slow", Slow(), memory=50_000_000)
        second = client.submit(
            pipe, action="search", X=X, y=Y, axes={"slow__tag": [1, 2]}, cv=3, refit=False, timeout=100
        )
        assert means(second.result()) == [1, 2]
        assert head(home, second) == head(home, first)


def test_another_size_gets_a_head_of_its_own_and_warm_zero_keeps_none(home):
    with fg.Client(home=home) as client:
        first = search(client)
        first.result()
        other = search(client, cpus=1)
        other.result()
        assert head(home, other) != head(home, first)
        until(lambda: len(list(home.glob("runs/*/parked"))) == 2, 5)
    with fg.Client(home=home, warm=0) as client:
        job = search(client)
        job.result()
        assert not psutil.pid_exists(head(home, job))
        assert not list(home.glob(f"runs/{job.id}-*/parked"))


def test_a_cancelled_job_leaves_no_head(home):
    with fg.Client(home=home) as client:
        pipe = fg.Pipeline("slow")
        pipe.node("slow", Slow(60))
        job = client.submit(pipe, action="cross_validate", X=X, y=Y, cv=3, timeout=120)
        until(lambda: "first_task" in job.view().timeline or "inputs_ready" in job.view().timeline, 60)
        job.cancel()
        assert job.wait(timeout=30).state is State.CANCELLED
        until(lambda: not psutil.pid_exists(head(home, job)), 5)
        assert not list(home.glob("runs/*/parked"))


def test_a_head_that_waits_ends_when_its_time_is_over(home):
    with fg.Client(home=home, warm=0.5) as client:
        job = search(client)
        job.result()
        until(lambda: not psutil.pid_exists(head(home, job)) or not list(home.glob("runs/*/parked")), 10)
        again = search(client)
        again.result()
        assert head(home, again) != head(home, job)
