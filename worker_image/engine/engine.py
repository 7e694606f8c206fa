"""Runs a job: every candidate on every fold, outcomes as they are complete, and the fitted pipelines it leaves."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from flaregate import versions
from flaregate.fitted_file import MEDIA_TYPE
from flaregate_wire.definitions import Action
from flaregate_wire.events import AttemptEvent, AttemptPhase, ErrorDetail, OutcomeEvent, Reported
from flaregate_wire.jobs import Result, Stats
from flaregate_wire.planning import Plan
from flaregate_wire.states import Reason
from worker_image.engine.drive import Drive
from worker_image.engine.families import Family, every_family, grow, lone_family
from worker_image.engine.outcomes import Tally
from worker_image.engine.prepare import Summary
from worker_image.engine.progress import Progress
from worker_image.engine.runner import Runner, SaveFailed, StatesLost
from worker_image.engine.schedule import Schedule
from worker_image.engine.tasks import ALL_ROWS, Key, Member, Report
from worker_image.work import Finished, LocalArtifact

BEST = "best"
SAVES = 3
"""How often a pipeline is fitted, if its states are lost with a machine before they are written."""


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Engine:
    """One run of one job."""

    plan: Plan
    runner: Runner
    report: Callable[[Reported], None]
    scratch: Path
    attempt: int = 1
    now: Callable[[], datetime] = utc_now
    artifacts: list[LocalArtifact] = field(default_factory=list)

    def run(self, summary: Summary) -> Finished:
        """Run everything on a runner that is prepared and gave `summary`."""
        definition = self.plan.definition
        fits = definition.action is Action.FIT
        folds = (ALL_ROWS,) if fits else tuple(range(summary.folds))
        forest = grow(every_family(self.plan))
        progress = Progress(self.report, self.now, self.attempt, forest.tasks * len(folds))
        outcomes = _Outcomes(self, Tally(self.plan, folds, self.now, self.attempt), progress)
        drive = Drive(self.runner)
        self._phase("first_task")
        drive.run(Schedule(self.plan, forest, folds), outcomes)
        progress.done = progress.total
        outcomes.finish_fits(drive)
        tally = outcomes.tally
        refit = _Refit(self, progress)
        if definition.action is Action.SEARCH and definition.refit is not False and tally.best is not None:
            refit.run(drive, tally.best[1])
        progress.say(always=True)
        self._phase("last_task")
        return self._finished(tally, progress, drive, refit)

    def save(self, candidate: int, name: str) -> None:
        """Write the pipeline of a candidate, whose states the runner holds. Raises SaveFailed or StatesLost."""
        path = self.scratch / f"{name}.flaregate"
        self.runner.save(self.plan.steps(self.plan.candidate(candidate)), path)
        self.artifacts.append(LocalArtifact(name=name, path=str(path), media_type=MEDIA_TYPE))

    def all_rows(self, family: Family) -> Schedule:
        """What fits one candidate on all rows."""
        return Schedule(self.plan, grow([family]), (ALL_ROWS,))

    def _phase(self, phase: AttemptPhase) -> None:
        self.report(AttemptEvent(time=self.now(), attempt=self.attempt, phase=phase))

    def _finished(self, tally: Tally, progress: Progress, drive: Drive, refit: "_Refit") -> Finished:
        only = 0 if self.plan.definition.action is Action.FIT and len(self.plan) == 1 else None
        result = Result(
            outcomes=tally.ended,
            failed=tally.failed,
            best=only if tally.best is None else tally.best[1],
            refit_time=refit.seconds,
            stats=Stats(
                tasks=drive.tasks,
                fits=dict(progress.fits),
                refits=dict(progress.refits),
                inner_fits=dict(progress.inner_fits),
                hosts=tuple(drive.hosts),
                runner=self.runner.name,
            ),
            versions=versions.here(),
        )
        reason, message = _verdict(tally, refit.error)
        return Finished(
            succeeded=reason in (None, Reason.SOME_CANDIDATES_FAILED),
            reason=reason,
            message=message,
            result=result,
            artifacts=tuple(self.artifacts),
        )


def _verdict(tally: Tally, refit: ErrorDetail | None) -> tuple[Reason | None, str | None]:
    if tally.first_error is not None:
        first = f"{tally.first_error.type}: {tally.first_error.message}"
        if tally.failed == tally.ended:
            return Reason.USER_ERROR, f"all {tally.ended} candidates failed; the first with {first}"
        return Reason.SOME_CANDIDATES_FAILED, f"{tally.failed} of {tally.ended} candidates failed; one with {first}"
    if refit is not None:
        return Reason.USER_ERROR, f"the best candidate could not be fitted on all rows: {refit.type}: {refit.message}"
    return None, None


@dataclass(slots=True)
class _Outcomes:
    """Takes in folds, hands out outcomes. With `fit`, an outcome waits until its pipeline is written."""

    engine: Engine
    tally: Tally
    progress: Progress
    _unsaved: list[OutcomeEvent] = field(default_factory=list)

    def step(self, node: str, key: Key, report: Report) -> None:
        if key not in self.tally.above:
            self._count(node, report)
        self.tally.above[key] = report

    def leaf(self, member: Member, fold: int, report: Report) -> None:
        self._count(member.step.node, report)
        self._add(member, fold, report)

    def failed(self, member: Member, fold: int, error: ErrorDetail) -> None:
        self.progress.done += 1
        self._add(member, fold, self.tally.failure(error, tests=fold != ALL_ROWS))

    def pause(self) -> None:
        self.progress.say()

    def finish_fits(self, drive: Drive) -> None:
        """Fit once more, by themselves, the candidates whose states were lost."""
        for outcome in self._unsaved:
            refit = _Refit(self.engine, self.progress, f"pipeline-{outcome.candidate}")
            refit.run(drive, outcome.candidate)
            self._emit(outcome.model_copy(update={"error": refit.error, "artifact": refit.artifact}))

    def _count(self, node: str, report: Report) -> None:
        self.progress.done += 1
        if report.fitted:
            self.progress.fits[node] += 1
        if report.inner_fits:
            self.progress.inner_fits[node] += report.inner_fits

    def _add(self, member: Member, fold: int, report: Report) -> None:
        for candidate in member.candidates:
            outcome = self.tally.add(candidate, fold, report)
            if outcome is None:
                continue
            if fold == ALL_ROWS and outcome.error is None:
                self._save(outcome)
            else:
                self._emit(outcome)

    def _save(self, outcome: OutcomeEvent) -> None:
        name = f"pipeline-{outcome.candidate}"
        try:
            self.engine.save(outcome.candidate, name)
        except StatesLost:
            self._unsaved.append(outcome)
        except SaveFailed as error:
            self._emit(outcome.model_copy(update={"error": _unsaved(error)}))
        else:
            self._emit(outcome.model_copy(update={"artifact": name}))

    def _emit(self, outcome: OutcomeEvent) -> None:
        self.tally.count(outcome)
        self.progress.failed = self.tally.failed
        self.engine.report(outcome)


@dataclass(slots=True)
class _Refit:
    """Fits one candidate on all rows and writes its pipeline."""

    engine: Engine
    progress: Progress
    name: str = BEST
    artifact: str | None = None
    error: ErrorDetail | None = None
    seconds: float | None = None

    def run(self, drive: Drive, candidate: int) -> None:
        begin = monotonic()
        for _ in range(SAVES):
            if not self._fitted(drive, candidate) or self._saved(candidate):
                break
        self.seconds = monotonic() - begin

    def _fitted(self, drive: Drive, candidate: int) -> bool:
        self.error = None
        self.engine.runner.forget()
        drive.run(self.engine.all_rows(lone_family(self.engine.plan, candidate)), self)
        return self.error is None

    def _saved(self, candidate: int) -> bool:
        try:
            self.engine.save(candidate, self.name)
        except SaveFailed as error:
            self.error = _unsaved(error)
        except StatesLost as error:
            self.error = ErrorDetail(type=type(error).__name__, message=str(error))
            return False
        else:
            self.artifact = self.name
        return True

    def step(self, node: str, key: Key, report: Report) -> None:
        self._count(node, report)

    def leaf(self, member: Member, fold: int, report: Report) -> None:
        self._count(member.step.node, report)
        self.error = report.error

    def failed(self, member: Member, fold: int, error: ErrorDetail) -> None:
        self.error = error

    def pause(self) -> None:
        self.progress.say()

    def _count(self, node: str, report: Report) -> None:
        if report.fitted:
            self.progress.refits[node] += 1


def _unsaved(error: SaveFailed) -> ErrorDetail:
    return ErrorDetail(type="SaveFailed", message=str(error))
