"""The public suite of flaregate.testing on every runner: some random pipelines always, hundreds in `make test-all`."""

import pytest

from flaregate.testing.conformance import check_random_fits, check_random_searches
from tests.worker.engine_runs import ray_nodes
from worker_image.conformance import ProcessRunnerConformance, RunnerConformance
from worker_image.engine.runner import SequentialRunner
from worker_image.in_process import in_process
from worker_image.ray_runner import RayRunner, connect, disconnect

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def ray():
    with ray_nodes(2) as nodes:
        try:
            yield RayRunner(connect(nodes.address))
        finally:
            disconnect()


class TestSequentialRunner(RunnerConformance):
    @pytest.fixture
    def runner(self):
        return SequentialRunner()


class TestProcessRunner(ProcessRunnerConformance):
    @pytest.fixture
    def runner(self, process_runner):
        return process_runner


@pytest.mark.exhaustive
class TestRayRunner(ProcessRunnerConformance):
    @pytest.fixture
    def runner(self, ray):
        return ray


@pytest.mark.exhaustive
def test_hundreds_of_random_searches():
    check_random_searches(in_process, 300)


@pytest.mark.exhaustive
def test_a_hundred_random_fits():
    check_random_fits(in_process, 100)
