"""The public suite of flaregate.testing on every runner: some random pipelines always, hundreds in `make test-all`."""

from dataclasses import replace

import pytest

from flaregate.testing.conformance import check_random_fits, check_random_searches
from flaregate_wire.events import OutcomeEvent
from tests.worker.engine_runs import ray_nodes
from worker_image.conformance import ProcessRunnerConformance, RunnerConformance
from worker_image.engine.runner import SequentialRunner
from worker_image.in_process import in_process
from worker_image.process_runner.handover import HandoverRunner
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
    tells_ends = False  # only the raylet, a worker's parent, hears how it ended, and does not pass it on

    @pytest.fixture
    def runner(self, ray):
        return ray


@pytest.mark.exhaustive
class TestHandoverRunner(ProcessRunnerConformance):
    """Each job goes over to Ray as soon as that has its rows: some before, some after their end."""

    tells_ends = False

    @pytest.fixture
    def runner(self, process_runner, ray):
        runner = HandoverRunner(process_runner, lambda: RayRunner(ray.connection), settle=0.0)
        yield runner
        runner.close()


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
def test_hundreds_of_random_searches():
    check_random_searches(in_process, 300)


@pytest.mark.exhaustive
def test_a_hundred_random_fits():
    check_random_fits(in_process, 100)


def one_lost(outcomes):
    return outcomes[1:]


def folds_swapped(outcomes):
    return [
        event.model_copy(update={"scores": {name: folds[::-1] for name, folds in event.scores.items()}})
        for event in outcomes
    ]


def numbers_swapped(outcomes):
    return [event.model_copy(update={"candidate": -event.candidate}) for event in outcomes]


def nobody_fails(outcomes):
    return [event.model_copy(update={"error": None}) for event in outcomes]


@pytest.mark.parametrize("spoil", [one_lost, folds_swapped, numbers_swapped, nobody_fails])
def test_the_suite_finds_who_gives_something_else(spoil):
    def run(submission, folder):
        ran = in_process(submission, folder)
        return replace(ran, events=spoil([event for event in ran.events if isinstance(event, OutcomeEvent)]))

    with pytest.raises(AssertionError):
        check_random_searches(run)


def test_the_suite_finds_who_fits_twice():
    def run(submission, folder):
        ran = in_process(submission, folder)
        fits = {node: 2 * count for node, count in ran.stats.fits.items()}
        stats = ran.stats.model_copy(update={"fits": fits})
        return replace(ran, totals=ran.totals.model_copy(update={"stats": stats}))

    with pytest.raises(AssertionError, match="a prefix is fitted once a fold"):
        check_random_searches(run)
