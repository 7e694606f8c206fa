"""What becomes of tasks whose process dies. For whatever runs tasks in processes of their own."""

from pathlib import Path

from sklearn.datasets import load_iris

from flaregate.testing.estimators import Majority, cell, marks_in
from flaregate.testing.ran import RunJob
from flaregate.testing.submitting import chain, errors, scores, submit
from flaregate_wire.states import Reason


class DeathCases:
    """Mixed into a suite that has a fixture `run`."""

    tells_ends = True
    """Whether an error says the exit code or signal of a process that died; some platforms do not tell it."""

    def test_only_who_dies_alone_is_blamed(self, run: RunJob, tmp_path: Path) -> None:
        """Rule 20: the finished members of its batch are kept, the others run again."""
        X, y = load_iris(return_X_y=True)
        pipe = chain(("majority", Majority(str(tmp_path))))
        axes = {"majority__way": ["a", "exit", "b", "kill", "c"]}
        ran = submit(run, tmp_path, pipe, X=X, y=y, axes=axes, cv=2, refit=False)
        assert errors(ran) == [None, "WorkerDied", None, "WorkerDied", None]
        assert ran.succeeded
        assert ran.reason is Reason.SOME_CANDIDATES_FAILED
        calm = submit(run, tmp_path, pipe, X=X, y=y, cv=2, action="cross_validate")
        for place in (0, 2, 4):
            assert list(scores(ran)[place]) == list(scores(calm)[0])
        messages = [outcome.error.message for outcome in ran.outcomes if outcome.error]
        assert all(messages)
        if self.tells_ends:
            assert "3" in messages[0], "the exit code is said"
            assert "9" in messages[1] or "SIGKILL" in messages[1], "the signal is said"

    def test_who_killed_its_process_is_not_repeated_unless_its_node_says_so(self, run: RunJob, tmp_path: Path) -> None:
        """On each fold it may die once in a batch and once alone; `retries` allow more."""
        X, y = load_iris(return_X_y=True)
        for retries in (0, 2):
            folder = tmp_path / f"retries-{retries}"
            folder.mkdir()
            pipe = chain()
            pipe.node("majority", Majority(str(folder), "exit"), retries=retries)
            ran = submit(run, folder, pipe, action="cross_validate", X=X, y=y, cv=2)
            assert errors(ran) == ["WorkerDied"]
            times = marks_in(folder)["fit exit"]
            assert 2 * (1 + retries) <= times <= 2 * (2 + retries)

    def test_a_cell_that_kills_its_process_is_an_error_row(self, run: RunJob, tmp_path: Path) -> None:
        """The last case of SEMANTICS: one cell raises, one dies, all the others have their rows."""
        axes = {"task": ["a", "b"], "seed": [0, 1, 2], "lr": [0.1]}
        ran = submit(run, tmp_path, cell, action="sweep", axes=axes)
        for outcome in ran.outcomes:
            wrong = {("a", 2): "WorkerDied", ("b", 1): "ArithmeticError"}.get(
                (outcome.axes["task"], outcome.axes["seed"])
            )
            assert (outcome.error and outcome.error.type) == wrong
            assert wrong or outcome.metrics == cell(**outcome.axes)
