"""HandoverRunner: tasks go over to the second runner once it is ready, with what they need; and once to real Ray."""

import threading
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from flaregate.pipelines import Pipeline
from flaregate_wire.planning import Step
from flaregate_wire.planning.families import Member
from flaregate_wire.states import Reason
from tests.conftest import until
from worker_image.engine.prepare import JobFailed, Summary
from worker_image.engine.tasks import ALL_ROWS, Cut, Done, Report, Task
from worker_image.process_runner.handover import HandoverRunner

ALL = Cut(fold=ALL_ROWS)


class Fake:
    """A runner whose tasks end when the test says so; what it holds are words."""

    def __init__(self, name, slots=2):
        self.name, self._slots = name, slots
        self.queue, self.running, self.ended = [], [], []
        self.parts, self.states, self.outputs = {}, {}, {}
        self.released, self.saved, self.closed = [], [], False
        self.inherited = None
        self.may_inherit = threading.Event()
        self.problem = None

    def slots(self):
        return self._slots

    def idle_workers(self):
        return (7,)

    @property
    def busy(self):
        return len(self.running)

    def prepare(self, context, files):
        return Summary(())

    def submit(self, task):
        missing = [key for key in task.inputs if key not in self.parts]
        assert not missing, f"{self.name} does not hold {missing}"
        self.queue.append(task)
        self._start()

    def _start(self):
        while self.queue and len(self.running) < self._slots:
            self.running.append(self.queue.pop(0))

    def finish(self, *numbers):
        for task in [one for one in self.running if one.number in numbers]:
            self.running.remove(task)
            if task.steps:
                self.parts[task.key] = f"{task.number} of {self.name}"
            if task.keeps_state:
                self.states |= {(digest, task.cut): f"state of {self.name}" for digest in task.digests}
            report = Report(held=task.leaf)
            if task.leaf:
                self.outputs[task.number, 0] = f"output of {self.name}"
            self.ended.append(Done(task, (report,) * len(task.digests), host=self.name))
        self._start()

    def wait(self, timeout=None):
        given, self.ended = self.ended, []
        return given

    def recall(self):
        given, self.queue = self.queue, []
        return given

    def release(self, keys):
        self.released += keys
        for key in keys:
            self.parts.pop(key, None)

    def forget(self):
        self.states.clear()

    def export(self, key, path):
        return path.write_text(self.parts[key])

    def export_state(self, key, path):
        return path.write_text(self.states[key])

    def export_data(self, path):
        path.write_text("rows")

    def adopt(self, key, path):
        self.parts[key] = path.read_text()

    def adopt_state(self, key, path):
        self.states[key] = path.read_text()

    def inherit(self, context, data):
        self.may_inherit.wait(10)
        if self.problem is not None:
            raise self.problem
        self.inherited = data.read_text()

    def save(self, steps, cut, path):
        self.saved.append([self.states[step.digest, cut] for step in steps])

    def save_output(self, task, index, path):
        path.write_text(self.outputs.pop((task.number, index)))
        return self.name

    def choose(self, table):
        return 3

    def close(self):
        self.closed = True


@pytest.fixture
def both():
    first, second = Fake("first"), Fake("second", slots=4)
    runner = HandoverRunner(first, lambda: second, settle=0.0)
    runner.prepare(object(), {})
    yield runner, first, second
    runner.close()


def step(digest, *inputs):
    return Step(digest, f"node-{digest}", (), inputs)


def above(number, digest, cut=ALL):
    return Task(number, cut, (), steps=(step(digest),), keeps_state=cut.fold == ALL_ROWS)


def leaf(number, digest, *inputs, cut=ALL):
    read = tuple((one, cut) for one in inputs)
    members = (Member(step(digest, *inputs), (0,)),)
    return Task(number, cut, read, members=members, keeps_state=cut.fold == ALL_ROWS)


def go_over(runner, second):
    """Let the second runner become ready."""
    second.may_inherit.set()
    until(lambda: [runner.wait(0)] and runner.slots() == second.slots(), 5)


def test_the_first_works_alone_until_the_second_is_warm(both):
    runner, first, second = both
    runner.submit(above(1, "a"))
    assert list(runner.wait(0.05)) == []
    assert (runner.name, runner.slots(), runner.idle_workers()) == ("first", 2, ())
    first.finish(1)
    assert [done.host for done in runner.wait()] == ["first"]
    assert second.running == []
    assert list(runner.wait()) == []


def test_tasks_that_have_not_begun_go_over_and_the_others_end_where_they_are(both):
    runner, first, second = both
    for number in range(1, 6):
        runner.submit(above(number, f"d{number}"))
    assert [task.number for task in first.running] == [1, 2]
    go_over(runner, second)
    assert second.inherited == "rows"
    assert (first.queue, runner.idle_workers()) == ([], ()), "no worker is idle while a task waits"
    assert [task.number for task in second.running] == [3, 4], "of four CPUs two are still the first's"
    runner.submit(above(6, "d6"))
    assert len(second.running) == 2
    first.finish(1)
    assert [done.task.number for done in runner.wait()] == [1]
    runner.wait(0)
    assert [task.number for task in second.running] == [3, 4, 5]
    assert runner.idle_workers() == ()
    first.finish(2)
    second.finish(3)
    assert {done.task.number: done.host for done in runner.wait()} == {2: "first", 3: "second"}
    runner.wait(0)
    assert [task.number for task in second.running] == [4, 5, 6]
    assert (runner.name, runner.idle_workers()) == ("second", (7,))


def test_what_the_first_holds_is_given_to_tasks_of_the_second_once(both, tmp_path):
    runner, first, second = both
    runner.submit(above(1, "a"))
    first.finish(1)
    runner.wait()
    runner.submit(above(2, "b"))
    go_over(runner, second)
    first.finish(2)
    runner.wait()
    runner.submit(leaf(3, "l", "a"))
    runner.submit(leaf(4, "m", "a", "b"))
    assert second.parts == {("a", ALL): "1 of first", ("b", ALL): "2 of first"}
    assert len(list(runner._folder.iterdir())) == 2
    second.finish(3, 4)
    runner.wait()
    assert runner.export(("a", ALL), tmp_path / "a") == len("1 of first")
    runner.release([("a", ALL), ("b", ALL)])
    assert first.parts == second.parts == {}
    assert list(runner._folder.iterdir()) == []
    runner.adopt(("c", ALL), Path(__file__))
    assert list(second.parts) == [("c", ALL)]


def test_a_pipeline_fitted_on_both_is_written_by_the_second(both, tmp_path):
    runner, first, second = both
    runner.submit(above(1, "a"))
    runner.submit(above(2, "b"))
    first.finish(1, 2)
    runner.wait()
    runner.save([step("a"), step("b")], ALL, tmp_path / "p")
    assert first.saved == [["state of first", "state of first"]]
    runner.submit(leaf(9, "held"))
    go_over(runner, second)
    runner.submit(leaf(3, "c", "a"))
    first.finish(9)
    runner.wait()
    second.finish(3)
    runner.wait()
    runner.save([step("a"), step("c", "a")], ALL, tmp_path / "p")
    assert second.saved == [["state of first", "state of second"]]
    assert runner.save_output(leaf(9, "held"), 0, tmp_path / "o") == "first"
    assert runner.save_output(leaf(3, "c", "a"), 0, tmp_path / "o") == "second"
    assert runner.choose({}) == 3
    runner.forget()
    assert first.states == second.states == {}


@pytest.mark.parametrize("problem", [JobFailed(Reason.PLATFORM_ERROR, "no way"), RuntimeError("broken"), SystemExit(0)])
def test_a_second_that_does_not_come_up_leaves_the_job_where_it_is(both, problem, caplog):
    runner, first, second = both
    second.problem = problem
    second.may_inherit.set()
    runner.submit(above(1, "a"))
    until(lambda: [runner.wait(0)] and "stays on first" in caplog.text, 5)
    first.finish(1)
    assert len(runner.wait()) == 1
    assert (runner.name, runner.slots(), second.running) == ("first", 2, [])


def test_a_new_job_begins_on_the_first_again(both):
    runner, first, second = both
    runner.submit(above(1, "a"))
    go_over(runner, second)
    first.finish(1)
    runner.wait()
    runner.submit(above(2, "b"))
    assert runner.name == "second"
    runner.prepare(object(), {})
    assert (runner.name, runner.slots()) == ("first", 2)
    runner.close()
    assert first.closed
    assert not second.closed
    assert not runner._folder.exists()


def test_a_job_that_is_soon_done_asks_for_no_second():
    asked = []
    runner = HandoverRunner(Fake("first"), lambda: asked.append(1), settle=60)
    runner.prepare(object(), {})
    runner.submit(above(1, "a"))
    runner.wait(0.2)
    assert asked == []
    runner.close()


# Real Ray


class Waiting(BaseEstimator):
    """From the fifth on, its fits end when a file is there."""

    def __init__(self, file="", tag=0):
        self.file = file
        self.tag = tag

    def fit(self, X, y=None):
        import time
        from pathlib import Path

        end = time.monotonic() + 60
        while self.tag >= 4 and not Path(self.file).exists():
            assert time.monotonic() < end, "it was never handed over"
            time.sleep(0.01)
        return self

    def transform(self, X):
        return X


def test_a_search_that_goes_over_to_ray_half_way_gives_the_numbers_of_one_that_stays(tmp_path):
    from sklearn.datasets import load_digits

    from tests.worker.engine_runs import TOKEN, ray_nodes, run
    from worker_image.process_runner.nursery import Zygote
    from worker_image.process_runner.runner import ProcessRunner
    from worker_image.ray_runner import RayRunner, connect, disconnect

    assert TOKEN
    X, y = load_digits(return_X_y=True)
    pipe = Pipeline()
    scale = pipe.node("scale", StandardScaler())
    handed = tmp_path / "handed"
    waiting = pipe.node("waiting", Waiting(str(handed)), after=scale)
    pca = pipe.node("pca", PCA(n_components=8, random_state=0), after=waiting)
    pipe.node("logistic", LogisticRegression(max_iter=300), after=pca)
    axes = {"waiting__tag": list(range(12)), "logistic__C": [0.1, 1.0]}

    class Telling(RayRunner):
        def inherit(self, context, data):
            super().inherit(context, data)
            handed.touch()

    zygote = Zygote.start()
    with ray_nodes(2) as nodes:
        connection = connect(nodes.address)
        runner = HandoverRunner(ProcessRunner(zygote, 2, "head"), lambda: Telling(connection), settle=0.1)
        try:
            ran = run(runner, pipe, tmp_path / "job", X=X, y=y, axes=axes, cv=3)
        finally:
            runner.close()
            disconnect()
            zygote.close()
    assert ran.finished.succeeded, ran.finished
    assert ran.result.stats.runner == "RayRunner"
    assert list(ran.result.stats.hosts) == ["head"]
    assert ran.result.stats.fits == {"scale": 3, "waiting": 36, "pca": 36, "logistic": 72}
    oracle = GridSearchCV(
        make_pipeline(StandardScaler(), PCA(n_components=8, random_state=0), LogisticRegression(max_iter=300)),
        {"logisticregression__C": [0.1, 1.0]}, cv=3,
    ).fit(X, y)  # fmt: skip
    expected = np.tile(oracle.cv_results_["mean_test_score"], 12)
    np.testing.assert_allclose([outcome.mean for outcome in ran.outcomes], expected, rtol=1e-9)
    np.testing.assert_array_equal(ran.pipeline().predict(X), oracle.predict(X))
