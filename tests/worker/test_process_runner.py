"""ProcessRunner: what only processes can suffer, what they leave to each other, and that none of them is left."""

import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_iris
from sklearn.naive_bayes import GaussianNB

from flaregate.payload import load
from flaregate.pipelines import Pipeline
from flaregate_wire.definitions import Needs
from flaregate_wire.planning import plan
from flaregate_wire.planning.families import Member
from tests.conftest import until
from tests.worker.engine_runs import submitted
from worker_image.engine import parts_file
from worker_image.engine.prepare import JobFailed
from worker_image.engine.runner import SaveFailed, StatesLost
from worker_image.engine.session import Context
from worker_image.engine.tasks import ALL_ROWS, Cut, Loss, Task
from worker_image.process_runner.nursery import Ends, Zygote
from worker_image.process_runner.runner import ProcessRunner

X, Y = load_iris(return_X_y=True)
FOLD = Cut(fold=0)
ALL = Cut(fold=ALL_ROWS)


def interrupt():
    raise KeyboardInterrupt


def leave_a_child():
    if os.fork() == 0:
        time.sleep(600)


DEEDS = {
    "exit": lambda: os._exit(3),
    "interrupt": interrupt,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "sleep": lambda: time.sleep(600),
    "breathe": lambda: time.sleep(0.3),
    "leave a child": leave_a_child,
}


class Deed(TransformerMixin, BaseEstimator):
    """Does something in its process, and passes its rows on."""

    def __init__(self, deed="nothing", folder=None):
        self.deed = deed
        self.folder = folder

    def fit(self, X, y=None):
        DEEDS.get(self.deed, lambda: None)()
        if self.deed == "hold":
            self.held_ = (number for number in X)
        self.pid_ = os.getpid()
        self.drawn_ = (random.random(), np.random.rand())
        self.threads_ = psutil.Process().num_threads()
        return self

    def transform(self, X):
        return X

    def score(self, X, y=None):
        return float(self.pid_)


@pytest.fixture(scope="module")
def others():
    """What runs beside: other tests' zygotes live as long as their modules."""
    return below()


@pytest.fixture(scope="module")
def zygote(others):
    zygote = Zygote.start()
    yield zygote
    zygote.close()
    assert below() <= others


def below():
    """Living processes below this one that run tasks or are about to, of whatever test."""
    return {one for one in psutil.Process().children(recursive=True) if _runs_tasks(one)}


def _runs_tasks(one):
    try:
        return one.status() != psutil.STATUS_ZOMBIE and "process_runner" in "".join(one.cmdline())
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def runner(zygote):
    before = below()
    runner = ProcessRunner(zygote, slots=2, host="here")
    yield runner
    runner.close()
    until(lambda: below() <= before, 3)
    assert not runner._folder.exists()


class Job:
    """A prepared job, and its steps by node and setting."""

    def __init__(self, runner, folder, pipe, **options):
        work = submitted(pipe, folder, X=X, y=Y, **{"action": "cross_validate", "cv": 3, **options})
        blobs = {sha: Path(path).read_bytes() for sha, path in work.blobs.items()}
        self.summary = runner.prepare(Context(work.definition, blobs), work.blobs)
        self.plan = plan(work.definition)
        self.numbers = iter(range(1000))

    def steps(self, candidate=0):
        return self.plan.steps(self.plan.candidate(candidate))

    def above(self, cut=FOLD, count=1, **more):
        return Task(next(self.numbers), cut, (), steps=self.steps()[:count], keeps_state=cut == ALL, **more)

    def leaves(self, *candidates, cut=FOLD, inputs=(), **more):
        members = tuple(Member(self.steps(one)[-1], (one,)) for one in candidates)
        return Task(next(self.numbers), cut, tuple(inputs), members=members, keeps_state=cut == ALL, **more)


def deeds(runner, folder, *values, **options):
    """One leaf with these deeds as candidates."""
    pipe = Pipeline()
    pipe.node("deed", Deed())
    return Job(runner, folder, pipe, axes={"deed__deed": list(values)}, **options)


def chained(runner, folder, first=None, **options):
    pipe = Pipeline()
    pipe.node("nb", GaussianNB(), after=pipe.node("deed", Deed() if first is None else first))
    return Job(runner, folder, pipe, **options)


def ran(runner, *tasks):
    for task in tasks:
        runner.submit(task)
    found = {}
    while len(found) < len(tasks):
        found |= {done.task.number: done for done in runner.wait()}
    return [found[task.number] for task in tasks]


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        ("exit", "exited with code 3"),
        ("interrupt", "exited with code 130"),
        ("kill", "was killed by signal 9 (SIGKILL)"),
        ("segfault", "was killed by signal 11 (SIGSEGV)"),
    ],
)
def test_a_batch_whose_process_dies_keeps_what_was_finished(runner, tmp_path, deed, words):
    job = deeds(runner, tmp_path / "job", "nothing", "fine", deed, "after")
    (done,) = ran(runner, job.leaves(0, 1, 2, 3))
    assert done.loss is Loss.DIED
    assert done.message == f"its process {words}"
    assert [report.error for report in done.reports] == [None, None]
    assert done.host == "here"
    (again,) = ran(runner, job.leaves(3))
    assert again.loss is None
    assert len(again.reports) == 1


def test_a_death_takes_nobody_with_it(runner, tmp_path):
    job = deeds(runner, tmp_path / "job", *("kill", "breathe") * 4)
    done = ran(runner, *(job.leaves(number) for number in range(8)))
    assert [one.loss for one in done] == [Loss.DIED, None] * 4


def test_a_task_over_its_time_is_ended(runner, tmp_path):
    job = deeds(runner, tmp_path / "job", "nothing", "sleep")
    begin = time.monotonic()
    slow, quick = ran(runner, job.leaves(0, 1, needs=Needs(timeout=0.5)), job.leaves(0, needs=Needs(timeout=60)))
    assert 0.5 <= time.monotonic() - begin < 30
    assert (slow.loss, slow.message) == (Loss.TIMED_OUT, "took longer than 0.5 s, so its process was ended")
    assert len(slow.reports) == 1
    assert quick.loss is None


def test_what_a_worker_leaves_running_ends_with_it(runner, tmp_path):
    job = deeds(runner, tmp_path / "job", "leave a child", "kill")
    before = len(below())
    (done,) = ran(runner, job.leaves(0, 1))
    assert done.loss is Loss.DIED
    until(lambda: len(below()) <= before, 3)


def test_waiting_ends_with_its_timeout_or_with_nothing_to_wait_for(runner, tmp_path):
    job = deeds(runner, tmp_path / "job", "sleep")
    assert list(runner.wait()) == []
    runner.submit(job.leaves(0, needs=Needs(timeout=2)))
    assert list(runner.wait(0)) == []
    begin = time.monotonic()
    assert list(runner.wait(0.05)) == []
    assert time.monotonic() - begin < 1.5
    assert len(runner.wait()) == 1


def test_at_most_as_many_tasks_run_as_there_are_slots_and_a_large_one_takes_its_share(runner, tmp_path):
    job = deeds(runner, tmp_path / "job", "breathe")
    tasks = [
        job.leaves(0),
        job.leaves(0, needs=Needs(num_cpus=2)),
        job.leaves(0),
        job.leaves(0, needs=Needs(num_cpus=9)),
    ]
    begin = time.monotonic()
    assert all(done.loss is None for done in ran(runner, *tasks))
    assert 1.15 <= time.monotonic() - begin < 2.5


def test_workers_stay_and_draw_their_own_numbers_with_one_thread_each(runner, tmp_path):
    job = chained(runner, tmp_path / "job", Deed("breathe"), action="fit")
    tasks = [job.above(ALL) for _ in range(4)]
    tasks = [replace(one, steps=(replace(one.steps[0], digest=f"{one.number:064x}"),)) for one in tasks]
    found = []
    for task in tasks:
        runner.submit(task)
    while len(found) < 4:
        for done in runner.wait():
            path = tmp_path / f"{done.task.number}.state"
            runner.export_state((done.task.steps[0].digest, ALL), path)
            found.append(load(path))
    assert len({state.pid_ for state in found}) == 2
    assert {state.threads_ for state in found} == {1}
    assert len({state.drawn_ for state in found}) == 4


def test_parts_go_from_worker_to_worker_by_file_and_are_released(runner, tmp_path):
    job = chained(runner, tmp_path / "job")
    above = job.above()
    (done,) = ran(runner, above)
    out = tmp_path / "out"
    assert runner.export(above.key, out) == out.stat().st_size
    parts = parts_file.read(out)
    assert parts.train.shape[0] + parts.test.shape[0] == 150
    done = ran(runner, *(job.leaves(0, inputs=[above.key]) for _ in range(3)))
    assert len({one.reports[0].scores["score"] for one in done}) == 1
    held = list(runner._folder.glob("*.parts"))
    assert len(held) == 1
    runner.release([above.key, ("unknown", FOLD)])
    assert not held[0].exists()
    with pytest.raises(StatesLost):
        runner.export(above.key, tmp_path / "again")
    runner.adopt(above.key, out)
    (adopted,) = ran(runner, job.leaves(0, inputs=[above.key]))
    assert adopted.reports[0].scores == done[0].reports[0].scores
    assert parts_file.read(out).train.shape == parts.train.shape


def test_a_fitted_pipeline_is_written_by_a_process_of_user_code_and_forgotten(runner, tmp_path):
    job = chained(runner, tmp_path / "job", action="fit")
    above = job.above(ALL)
    ran(runner, above)
    ran(runner, job.leaves(0, cut=ALL, inputs=[above.key]))
    runner.save(job.steps(), ALL, tmp_path / "pipeline.zip")
    from flaregate.fitted import FittedPipeline
    from flaregate.fitted_file import read

    fitted = FittedPipeline(read(tmp_path / "pipeline.zip", trust=True))
    np.testing.assert_array_equal(fitted.predict(X), GaussianNB().fit(X, Y).predict(X))
    runner.forget()
    with pytest.raises(StatesLost):
        runner.save(job.steps(), ALL, tmp_path / "pipeline.zip")


def test_what_cannot_be_written_is_an_error_of_its_step(runner, tmp_path):
    job = chained(runner, tmp_path / "job", Deed("hold"), action="fit")
    (done,) = ran(runner, job.above(ALL))
    assert "pickle" in done.reports[0].error.message
    with pytest.raises(StatesLost):
        runner.save(job.steps(), ALL, tmp_path / "pipeline.zip")
    with pytest.raises(SaveFailed, match="Error"):
        runner.choose({})


def test_another_job_begins_with_nothing_of_the_one_before(runner, tmp_path):
    idle = below()
    job = deeds(runner, tmp_path / "first", "sleep")
    runner.submit(job.leaves(0))
    runner.wait(0.2)
    first = below()
    job = deeds(runner, tmp_path / "second", "nothing")
    (done,) = ran(runner, job.leaves(0))
    assert done.loss is None
    assert first & below() <= idle  # the zygote, and what is not ours


def test_a_process_that_dies_while_inputs_are_loaded_ends_the_job(runner, tmp_path):
    class Bomb(BaseEstimator):
        def fit(self, X, y=None):
            return self

        def __setstate__(self, state):
            os.kill(os.getpid(), signal.SIGKILL)

    pipe = Pipeline()
    pipe.node("bomb", Bomb())
    with pytest.raises(JobFailed) as failed:
        Job(runner, tmp_path / "job", pipe, scoring="accuracy")
    assert failed.value.reason == "user_error"
    assert failed.value.message == "while inputs and nodes were loaded, the process was killed by signal 9 (SIGKILL)"
    job = deeds(runner, tmp_path / "next", "nothing")
    assert ran(runner, job.leaves(0))[0].loss is None


def test_code_that_starts_threads_while_it_is_loaded_still_runs(runner, tmp_path):
    class Threaded(Deed):
        def __setstate__(self, state):
            import threading

            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
            self.__dict__.update(state)

    job = chained(runner, tmp_path / "job", Threaded("breathe"))
    assert runner._data is not None
    above = job.above()
    done = ran(runner, above, job.above(count=1, cut=Cut(fold=1)))
    assert [one.loss for one in done] == [None, None]
    (leaf,) = ran(runner, job.leaves(0, inputs=[above.key]))
    assert leaf.reports[0].error is None
    runner.export_data(tmp_path / "rows")
    assert load(tmp_path / "rows").sources[0].rows == 150


def test_the_job_s_process_is_not_run_without(runner, others, tmp_path):
    job = deeds(runner, tmp_path / "job", "sleep")
    runner.submit(job.leaves(0))
    runner.wait(0.2)
    processes = below() - others
    (root,) = [one for one in processes if one.parent() in processes and one.children()]
    root.kill()
    with pytest.raises(JobFailed, match="holds the job's rows"):
        runner.wait()


def test_want_of_memory_is_told_where_the_kernel_counts_it():
    counts = iter([0, 0, 1])
    ends = Ends(lambda: next(counts), lambda: " (its container has 1.00 GB)")
    assert ends.read(-9).words == "was killed by signal 9 (SIGKILL)"
    assert ends.read(-9).words == "was killed for want of memory by signal 9 (SIGKILL) (its container has 1.00 GB)"


def test_a_zygote_ends_with_its_parent(tmp_path):
    import subprocess
    import sys

    code = (
        "import os, sys, time\nimport worker_image.engine.work\n"
        "from worker_image.process_runner.nursery import Zygote\n"
        "zygote = Zygote.split_off() if sys.argv[1] == 'split' else Zygote.start()\n"
        "child = zygote.fork()\nprint('ready', flush=True)\ntime.sleep(600)\n"
    )
    for way in ("split", "start"):
        with subprocess.Popen([sys.executable, "-c", code, way], stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout.readline() == "ready\n"
            me = psutil.Process(parent.pid)
            until(lambda me=me: len(me.children(recursive=True)) == 2, 20)
            family = me.children(recursive=True)
            parent.kill()
            until(lambda family=family: not any(map(lives, family)), 5)


def lives(process):
    """Whether it runs; what nobody has waited for does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_lines_that_workers_print_at_once_stay_whole(tmp_path):
    import subprocess
    import sys

    code = (
        "import worker_image.engine.work\nfrom worker_image.process_runner.nursery import Zygote\n"
        "from tests.worker.test_process_runner import ProcessRunner, Talks, chained, ran\n"
        "zygote = Zygote.split_off()\nrunner = ProcessRunner(zygote, 2)\n"
        f"job = chained(runner, __import__('pathlib').Path({str(tmp_path / 'job')!r}), Talks())\n"
        "ran(runner, *(job.above() for _ in range(8)))\nrunner.close()\nzygote.close()\n"
    )
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=root, capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.splitlines() == ["one line of several words"] * 8 * 300


class Talks(Deed):
    def fit(self, X, y=None):
        for _ in range(300):
            print("one", "line", "of", "several", "words")
        return self
