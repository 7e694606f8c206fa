"""Binds a Runner to the public conformance suite of flaregate.testing. Needs pytest and hypothesis.

A Runner of one's own is proved by a subclass with a fixture `runner`:

    from worker_image.conformance import ProcessRunnerConformance

    class TestMine(ProcessRunnerConformance):
        examples = 300

        @pytest.fixture
        def runner(self):
            return MyRunner()  # one may serve all tests: each job begins with `prepare`
"""

import pytest

from flaregate.testing import RunJob
from flaregate.testing.conformance import JobConformance, ProcessConformance
from worker_image.engine.runner import Runner
from worker_image.in_process import jobs_on


class RunnerConformance(JobConformance):
    """The suite for any Runner: subclass it with a fixture `runner`."""

    @pytest.fixture
    def run(self, runner: Runner) -> RunJob:
        """Jobs on the runner."""
        return jobs_on(lambda: runner)


class ProcessRunnerConformance(ProcessConformance, RunnerConformance):
    """The suite for a Runner whose tasks run in other processes: also what becomes of those that die."""
