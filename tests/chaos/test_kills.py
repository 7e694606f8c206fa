"""kill -9 of gateway, head and worker during a job; cancel in each state. Real processes, real Ray."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris

import flaregate as fg
from flaregate_wire.events import AttemptEvent, OutcomeEvent
from flaregate_wire.states import Reason, State
from tests.conftest import runs, supervisor, until
from worker_image.settings import node_ip

pytestmark = pytest.mark.chaos


class _Slow(ClassifierMixin, BaseEstimator):
    def __init__(self, seconds=0.5, number=0):
        self.seconds = seconds
        self.number = number

    def fit(self, X, y):
        time.sleep(self.seconds)
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.repeat(self.classes_[0], len(X))


def submit(client, count=12, slow=None, **options):
    pipe = fg.Pipeline("slow")
    pipe.node("slow", slow or type("Slow", (_Slow,), dict(_Slow.__dict__))())
    X, y = load_iris(return_X_y=True)
    more = {"workers": 1, "cpus": 1, "timeout": 120, "cv": 2, "refit": False, **options}
    return client.submit(pipe, X=X, y=y, axes={"slow__number": list(range(count))}, **more)


def in_state(job, *states):
    return until(lambda: (view := job.view()).state in states and view, 60)


def first_outcome(job):
    return next(event for event in job.events() if isinstance(event, OutcomeEvent))


def assert_all_is_well(job, count=12):
    view = job.wait(timeout=90)
    assert (view.state, view.reason) == (State.SUCCEEDED, None), view
    assert [outcome.error for outcome in job.result().outcomes] == [None] * count
    events = list(job.events())
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert sum(isinstance(event, OutcomeEvent) for event in events) == count
    until(lambda: not runs(job.id), 15)


def test_a_killed_gateway_takes_up_its_running_job_when_it_is_back(own_gateway):
    with own_gateway.client() as client:
        job = submit(client)
        first_outcome(job)
        before = [event.model_dump() for event in zip_until_outcome(job)]
        own_gateway.kill()
        time.sleep(2)
        assert supervisor(job.id) is not None, "the job must live on while its gateway is away"
        own_gateway.start()
        assert_all_is_well(job)
        again = [event.model_dump() for event in zip_until_outcome(job)]
        assert again[: len(before)] == before


def zip_until_outcome(job):
    for event in job.events():
        yield event
        if isinstance(event, OutcomeEvent):
            return


def test_a_stream_goes_on_over_a_killed_gateway(own_gateway):
    with own_gateway.client() as client:
        job = submit(client)
        seen = []
        for event in job.events():
            seen.append(event.id)
            if isinstance(event, OutcomeEvent) and own_gateway.process.poll() is None and len(seen) < 30:
                own_gateway.kill()
                own_gateway.start()
        assert seen == list(range(1, len(seen) + 1))


def test_a_killed_head_ends_the_attempt_as_head_lost_and_leaves_nothing(own_gateway):
    with own_gateway.client() as client:
        job = submit(client, retries=0)
        first_outcome(job)
        start = time.monotonic()
        supervisor(job.id, 0).kill()
        view = job.wait(timeout=60)
        assert (view.state, view.reason) == (State.FAILED, Reason.HEAD_LOST)
        assert time.monotonic() - start < 15
        assert "submit again" in view.hint
        until(lambda: not runs(job.id), 15)
        with pytest.raises(fg.JobFailed) as caught:
            job.result()
        assert caught.value.result.outcomes, "what was made before the loss is kept"


class _Counted(_Slow):
    """Leaves a mark for each fit that begins and for each that ends."""

    def __init__(self, seconds=0.5, number=0, folder=""):
        super().__init__(seconds, number)
        self.folder = folder

    def fit(self, X, y):
        begun = len(list(Path(self.folder).glob(f"{self.number}-{len(X)}-{int(X[:, 0].sum() * 100)}-begun-*")))
        name = f"{self.folder}/{self.number}-{len(X)}-{int(X[:, 0].sum() * 100)}"
        Path(f"{name}-begun-{begun}").touch()
        super().fit(X, y)
        Path(f"{name}-ended-{begun}").touch()
        return self


def test_a_retry_after_a_killed_head_computes_only_what_had_not_ended(own_gateway, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    counted = type("Counted", (_Counted,), dict(_Counted.__dict__))
    pipe = fg.Pipeline("counted")
    pipe.node("counted", counted(folder=str(marks)))
    X, y = load_iris(return_X_y=True)
    axes = {"counted__number": list(range(10))}
    with own_gateway.client() as client:
        job = client.submit(pipe, X=X, y=y, axes=axes, cv=4, refit=False, cpus=2, timeout=120)
        until(lambda: len(list(marks.glob("*-ended-*"))) >= 20, 60)
        time.sleep(0.4)  # what ended just before the kill may be on its way
        ended = {mark.name for mark in marks.glob("*-ended-*")}
        supervisor(job.id, 0).kill()
        view = job.wait(timeout=90)
        assert (view.state, len(view.attempts)) == (State.SUCCEEDED, 2)
        result = job.result()
    assert sorted(outcome.axes["counted__number"] for outcome in result.outcomes) == list(range(10))
    assert result.stats.cached >= len(ended) - 2
    again = list(marks.glob("*-begun-1"))
    running = 4  # two slots, and what ended in the last quarter of a second
    assert len(again) <= running
    assert len(list(marks.glob("*-begun-*"))) <= 40 + running


class _UntilEnough(_Slow):
    """Tells whose process has fitted, and is slow until that is enough."""

    def __init__(self, number=0, folder=""):
        super().__init__(0.5, number)
        self.folder = folder

    def fit(self, X, y):
        self.seconds = 0 if Path(self.folder, "enough").exists() else 0.5
        super().fit(X, y)
        Path(self.folder, str(os.getpid())).touch()
        return self


def until_enough(tmp_path):
    """The estimator, and its folder."""
    marks = tmp_path / "marks"
    marks.mkdir()
    return type("UntilEnough", (_UntilEnough,), dict(_UntilEnough.__dict__))(folder=str(marks)), marks


def test_a_killed_worker_is_replaced_by_another_that_takes_its_part(own_gateway, tmp_path):
    slow, marks = until_enough(tmp_path)

    def fitted_by(index):
        processes = supervisor(job.id, index).children(recursive=True)
        return {str(process.pid) for process in processes} & {mark.name for mark in marks.iterdir()}

    with own_gateway.client() as client:
        job = submit(client, 300, slow)
        until(lambda: "joined" in job.view().timeline, 60)
        first_outcome(job)
        supervisor(job.id, 1).kill()
        until(lambda: supervisor(job.id, 2) is not None, 10)
        until(lambda: fitted_by(2), 60)
        (marks / "enough").touch()
        assert_all_is_well(job, count=300)
        told = [(event.phase, event.index) for event in job.events() if isinstance(event, AttemptEvent)]
        order = [("joined", 1), ("lost", 1), ("launched", 2), ("joined", 2), ("committed", 0)]
        assert [one for one in told if one in order] == order
        second = f"worker {node_ip(own_gateway.url, f'{job.id}-1', 2)}:"
        assert [host for host in job.result().stats.hosts if host.startswith(second)], job.result().stats.hosts


def test_workers_that_are_killed_again_and_again_do_not_keep_a_job_from_its_end(own_gateway, tmp_path):
    slow, marks = until_enough(tmp_path)
    with own_gateway.client() as client:
        job = submit(client, 300, slow)
        first_outcome(job)
        killed, end = set(), time.monotonic() + 60
        while not job.view().state.terminal:
            for index in range(1, 5):
                worker = supervisor(job.id, index)
                if worker is not None and index not in killed:
                    killed.add(index)
                    worker.send_signal(signal.SIGTERM if index == 2 else signal.SIGKILL)
                    end = time.monotonic() + (60 if index < 3 else 5)  # in which another one may come, or must not
            if time.monotonic() > end:
                (marks / "enough").touch()
            time.sleep(0.2)
        assert killed == {1, 2, 3}, "as many replacements as there is a bound for"
        assert_all_is_well(job, count=300)


@pytest.mark.parametrize("state", [State.QUEUED, State.LAUNCHING, State.RUNNING])
def test_cancel_in_each_state(own_gateway, state):
    with own_gateway.client() as client:
        job = submit(client, count=100)
        if state is not State.QUEUED:
            in_state(job, state)
        job.cancel()
        view = job.wait(timeout=30)
        assert (view.state, view.reason) == (State.CANCELLED, Reason.CANCELLED_BY_USER)
        until(lambda: not runs(job.id), 10)
        with pytest.raises(fg.JobCancelled):
            job.result()
        assert job.cancel().state is State.CANCELLED


def test_cancel_of_code_that_ignores_sigterm(own_gateway):
    class Deaf(_Slow):
        def fit(self, X, y):
            import signal

            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
            print("deaf now", flush=True)
            time.sleep(600)

    deaf = type("Deaf", (Deaf,), dict(Deaf.__dict__))
    with own_gateway.client() as client:
        pipe = fg.Pipeline("deaf")
        pipe.node("deaf", deaf())
        X, y = load_iris(return_X_y=True)
        job = client.submit(pipe, action="cross_validate", X=X, y=y, cv=2, timeout=120)
        until(lambda: "deaf now" in "".join(job.logs()), 60)
        job.cancel()
        assert job.wait(timeout=30).state is State.CANCELLED
        until(lambda: not runs(job.id), 10)


def test_gateway_and_head_killed_together_leave_nothing_after_the_restart(own_gateway):
    with own_gateway.client() as client:
        job = submit(client, retries=0)
        first_outcome(job)
        own_gateway.kill()
        supervisor(job.id, 0).kill()
        own_gateway.start()
        view = job.wait(timeout=60)
        assert (view.state, view.reason) == (State.FAILED, Reason.HEAD_LOST)
        until(lambda: not runs(job.id), 15)


def test_a_frozen_head_within_its_lease_lives(own_gateway):
    with own_gateway.client() as client:
        job = submit(client)
        first_outcome(job)
        first = supervisor(job.id, 0)
        frozen = [first, *first.children()]  # the first process and the supervisor, its only child
        for process in frozen:
            process.suspend()
        time.sleep(5)
        for process in frozen:
            process.resume()
        assert_all_is_well(job)


def test_an_embedded_gateway_ends_with_its_client_even_when_that_is_killed(tmp_path):
    import os
    import subprocess
    import sys

    script = (
        "import flaregate as fg, time\nfrom sklearn.dummy import DummyClassifier\n"
        "from sklearn.datasets import load_iris\nX, y = load_iris(return_X_y=True)\n"
        "pipe = fg.Pipeline('p'); pipe.node('d', DummyClassifier())\n"
        "client = fg.Client(); job = client.submit(pipe, action='fit', X=X, y=y, workers=1, cpus=1)\nprint(job.id, flush=True)\n"
        "time.sleep(600)\n"
    )
    home = tmp_path / "home"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLAREGATE_")}
    with subprocess.Popen(
        [sys.executable, "-c", script], env={**kept, "FLAREGATE_HOME": str(home)}, stdout=subprocess.PIPE, text=True
    ) as program:
        job = program.stdout.readline().strip()
        assert job
        until(lambda: runs(job), 20)
        program.kill()

    def serving():
        found = []
        for process in psutil.process_iter():
            try:
                if any(str(home) in value for value in process.environ().values()):  # a head that waits, too
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    until(lambda: not serving() and not runs(job), 30)
