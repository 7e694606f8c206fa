"""Fits one candidate on all rows of a source and writes its pipeline, or takes it from the cache."""

from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from flaregate.fitted_file import MEDIA_TYPE
from flaregate_wire.events import ErrorDetail
from flaregate_wire.planning import Plan
from flaregate_wire.planning.families import Member, grow, lone_family
from worker_image.engine.recall import Recall
from worker_image.engine.run import Run
from worker_image.engine.runner import SaveFailed, StatesLost
from worker_image.engine.schedule import Load, Schedule
from worker_image.engine.tasks import Cut, Report, Task
from worker_image.work import LocalArtifact

SAVES = 3
"""How often a pipeline is fitted, if its states are lost with a machine before they are written."""


@dataclass(slots=True)
class Refit:
    """One candidate on all rows."""

    run: Run
    plan: Plan
    recall: Recall
    candidate: int
    cut: Cut
    name: str
    artifact: LocalArtifact | None = None
    error: ErrorDetail | None = None
    seconds: float | None = None
    stopped: bool = False
    _report: Report | None = None

    def fit(self) -> None:
        """Fit and write; `artifact` or `error` says how it went."""
        begin = monotonic()
        leaf = self.plan.steps(self.plan.candidate(self.candidate))[-1]
        known = self.recall.pipeline(leaf, self.cut)
        if known is not None:
            self._written(known[1])
            self.run.progress.cached += 1
        else:
            self._fit()
        self.seconds = monotonic() - begin

    def _fit(self) -> None:
        self.run.drive.let_idle_go()  # one path after the other: the head does it alone
        for _ in range(SAVES):
            if not self._fitted() or self._saved():
                return

    def _fitted(self) -> bool:
        self.error = None
        self.run.runner.forget()
        forest = grow([lone_family(self.plan, self.candidate)])
        self.run.drive.run(Schedule(self.plan, forest, (self.cut,)), self)
        return self.error is None

    def _saved(self) -> bool:
        steps = self.plan.steps(self.plan.candidate(self.candidate))
        try:
            path = self.run.save(steps, self.cut, self.name)
        except SaveFailed as error:
            self.error = ErrorDetail(type="SaveFailed", message=str(error))
        except StatesLost as error:
            self.error = ErrorDetail(type=type(error).__name__, message=str(error))
            return False
        else:
            self._written(path)
            if self._report is not None:
                report = replace(self._report, held=True, media_type=MEDIA_TYPE, scores=None, train_scores=None)
                self.recall.keep_leaf(steps[-1], self.cut, report, path)
        return True

    def _written(self, path: Path) -> None:
        self.artifact = LocalArtifact(name=self.name, path=str(path), media_type=MEDIA_TYPE)

    # What the drive tells

    def steps(self, task: Task, reports: tuple[Report, ...], seconds: float) -> None:
        for step, report in zip(task.steps, reports, strict=True):
            self.run.progress.refits[step.node] += report.fitted

    def loaded(self, load: Load) -> None:
        raise AssertionError(load)  # a run on all rows has its own states to keep

    def leaf(self, task: Task | None, index: int, member: Member, cut: Cut, report: Report) -> None:
        self.run.progress.refits[member.step.node] += report.fitted
        self.error, self._report = report.error, report

    def failed(self, member: Member, cut: Cut, error: ErrorDetail) -> None:
        self.error = error

    def pause(self) -> None:
        self.run.progress.say()
