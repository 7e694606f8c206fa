"""Binds a Runner to the public conformance suite of flaregate.testing. Needs pytest and hypothesis.

A Runner of one's own is proved by a subclass with a fixture `runner`:

    from worker_image.conformance import ProcessRunnerConformance

    class TestMine(ProcessRunnerConformance):
        examples = 300

        @pytest.fixture
        def runner(self):
            return MyRunner()  # one may serve all tests: each job begins with `prepare`
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.tree import DecisionTreeClassifier

from flaregate.testing import RunJob
from flaregate.testing.conformance import JobConformance, ProcessConformance
from flaregate.testing.submitting import chain, submit
from worker_image.engine.runner import Runner
from worker_image.engine.tasks import Done, Key
from worker_image.in_process import jobs_on


class _Watched:
    """A runner, and what it holds for later tasks."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.held: set[Key] = set()
        self.made = 0
        self.most = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def wait(self, timeout: float | None = None) -> Sequence[Done]:
        ended = self._runner.wait(timeout)
        keys = {done.task.key for done in ended if done.task.steps}
        self.made += len(keys)
        self.held |= keys
        self.most = max(self.most, len(self.held))
        return ended

    def release(self, keys: Collection[Key]) -> None:
        self.held -= set(keys)
        self._runner.release(keys)


class RunnerConformance(JobConformance):
    """The suite for any Runner: subclass it with a fixture `runner`."""

    @pytest.fixture
    def run(self, runner: Runner) -> RunJob:
        """Jobs on the runner."""
        return jobs_on(lambda: runner)

    def test_what_nothing_reads_any_more_is_released(self, runner: Runner, tmp_path: Path) -> None:
        """Rule 13: the rows of a prefix go when their last consumer is done, not when the job is."""
        X, y = load_iris(return_X_y=True)
        watched: Any = _Watched(runner)
        pipe = chain(("pca", PCA()), ("tree", DecisionTreeClassifier(random_state=0)))
        axes = {"pca__tol": [number / 100 for number in range(20)], "tree__max_depth": [1, 2, 3]}
        submit(jobs_on(lambda: watched), tmp_path, pipe, X=X, y=y, axes=axes, cv=4, refit=False)
        assert watched.made == 80  # 20 settings on 4 folds
        assert not watched.held
        assert watched.most < watched.made


class ProcessRunnerConformance(ProcessConformance, RunnerConformance):
    """The suite for a Runner whose tasks run in other processes: also what becomes of those that die."""
