"""The conformance suite for whatever runs jobs: SEMANTICS as test cases that anyone can run on a Runner of their own.

A third party gives a way to run a job to its end, a `RunJob`, as the fixture `run` of a subclass:

    from flaregate.testing.conformance import JobConformance

    class TestMine(JobConformance):
        @pytest.fixture
        def run(self):
            return my_way_to_run_a_job

For an implementation of the engine's own contract `Runner`, `worker_image.conformance` makes that from a fixture
`runner`. Without pytest, `check_random_searches` and `check_random_fits` take a `RunJob` directly. The suite needs
scikit-learn, pandas and hypothesis. Its estimators leave marks in a local folder: tasks must run on this machine.
"""

from flaregate.testing.death import DeathCases
from flaregate.testing.ran import RunJob
from flaregate.testing.random_cases import EXAMPLES, agree, check_random_fits, check_random_searches
from flaregate.testing.rules import RuleCases
from flaregate.testing.table import TableCases

__all__ = ["JobConformance", "ProcessConformance", "agree", "check_random_fits", "check_random_searches"]


class JobConformance(TableCases, RuleCases):
    """Random pipelines, the fixed cases, and the rules that concern whatever runs tasks."""

    examples = EXAMPLES
    """Random searches; half as many random fits are made beside them."""

    def test_random_searches_equal_scikit_learn(self, run: RunJob) -> None:
        check_random_searches(run, self.examples)

    def test_random_fits_equal_scikit_learn(self, run: RunJob) -> None:
        check_random_fits(run, self.examples // 2)


class ProcessConformance(JobConformance, DeathCases):
    """The same, and what only tasks in other processes can suffer."""
