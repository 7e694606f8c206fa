"""Takes in what tasks gave and hands outcomes out, each with its file: a fitted pipeline or an output."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from flaregate.fitted_file import MEDIA_TYPE
from flaregate_wire.definitions import Action
from flaregate_wire.events import ErrorDetail, OutcomeEvent
from flaregate_wire.planning import Step
from flaregate_wire.planning.families import Forest, Member
from worker_image.engine.outcomes import Tally, plain
from worker_image.engine.recall import Recall
from worker_image.engine.run import Run
from worker_image.engine.runner import SaveFailed, StatesLost
from worker_image.engine.schedule import Load
from worker_image.engine.tasks import Cut, Report, Task
from worker_image.work import LocalArtifact


@dataclass(slots=True)
class Gather:
    """The sink of a run. With `fit`, an outcome waits until its pipeline is written."""

    run: Run
    tally: Tally
    recall: Recall
    forest: Forest
    unsaved: list[tuple[OutcomeEvent, Cut]] = field(default_factory=list)
    """Outcomes whose fitted states were lost."""
    best_metric: tuple[float, int] | None = None
    """Of a sweep: the best value so far, negated where the largest is best, and its cell."""
    means: dict[int, float] = field(default_factory=dict)
    """Mean test score by candidate, where successive halving asks."""
    tables: list[OutcomeEvent] = field(default_factory=list)
    """All outcomes, where a function of the user's chooses the best."""
    _above: dict[tuple[str, ...], tuple[Step, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._above = {family.leaf.inputs: (*family.above, family.leaf) for family in self.forest.families}

    @property
    def stopped(self) -> bool:
        """Whether a failed candidate has ended the job."""
        definition = self.tally.plan.definition
        return self.tally.failed > 0 and (definition.fail_fast or definition.error_score == "raise")

    def steps(self, task: Task, reports: tuple[Report, ...], seconds: float) -> None:
        for step, report in zip(task.steps, reports, strict=True):
            key = (step.digest, task.cut)
            if key not in self.tally.above or self.tally.above[key].cached:
                self._count(step, report)
            self.tally.above[key] = report
        if all(report.error is None for report in reports):
            self.recall.made(task, reports, seconds, self.run.runner.export)

    def loaded(self, load: Load) -> None:
        self.run.progress.done += len(load.unit.steps)
        self.run.progress.cached += len(load.unit.steps)
        for digest, report in self.recall.reports(load).items():
            self.tally.above.setdefault((digest, load.cut), report)

    def leaf(self, task: Task | None, index: int, member: Member, cut: Cut, report: Report) -> None:
        self._count(member.step, report)
        file: LocalArtifact | None = None
        if report.held:
            report, file = self._output(task, index, member, cut, report)
        if self.tally.plan.definition.action is not Action.FIT:
            alone = self.tally.alone(self._above[member.step.inputs], cut, report)
            self.recall.keep_leaf(member.step, cut, alone, None if file is None else Path(file.path))
        self._add(member, cut, report, file)

    def failed(self, member: Member, cut: Cut, error: ErrorDetail) -> None:
        self.run.progress.done += 1
        self._add(member, cut, self.tally.failure(error), None)

    def pause(self) -> None:
        self.run.progress.say()

    def _count(self, step: Step, report: Report) -> None:
        progress = self.run.progress
        progress.done += 1
        if report.cached:
            progress.cached += 1
            return
        if report.fitted:
            progress.fits[step.node] += 1
        if report.inner_fits:
            progress.inner_fits[step.node] += report.inner_fits

    def _output(
        self, task: Task | None, index: int, member: Member, cut: Cut, report: Report
    ) -> tuple[Report, LocalArtifact | None]:
        """The file of what a leaf gave."""
        name = self._named("output", member.candidates[0], cut)
        if task is None:
            path = self.recall.files[member.step.digest, cut]
            return report, LocalArtifact(name=name, path=str(path), media_type=report.media_type)
        path = self.run.scratch / f"{name}.output"
        try:
            media_type = self.run.runner.save_output(task, index, path)
        except (SaveFailed, StatesLost) as error:
            return replace(report, held=False, error=_unsaved(error)), None
        return replace(report, media_type=media_type), LocalArtifact(name=name, path=str(path), media_type=media_type)

    def _named(self, what: str, candidate: int, cut: Cut) -> str:
        """The name of an artifact: with the candidate where there are several, with the object where it has a name."""
        plan = self.tally.plan
        several = len(plan) > 1 or what == "pipeline" or plan.definition.action is Action.MAP
        source = self.tally.summary.sources[cut.source].name
        return "-".join([what, *([str(candidate)] if several else []), *([source] if source else [])])

    def _add(self, member: Member, cut: Cut, report: Report, file: LocalArtifact | None) -> None:
        for candidate in member.candidates:
            outcome = self.tally.add(candidate, cut, report)
            if outcome is None:
                continue
            if self.tally.plan.definition.action is Action.FIT and outcome.error is None:
                self._save(outcome, candidate, cut, member.step, report)
            else:
                self.emit(outcome, cut, candidate, file)

    def _save(self, outcome: OutcomeEvent, candidate: int, cut: Cut, leaf: Step, report: Report) -> None:
        name = self._named("pipeline", candidate, cut)
        try:
            path = self.recall.files.get((leaf.digest, cut)) if report.cached else None
            if path is None:
                steps = self.tally.plan.steps(self.tally.plan.candidate(candidate))
                path = self.run.save(steps, cut, name)
                alone = replace(self.tally.alone(steps, cut, report), held=True, media_type=MEDIA_TYPE)
                self.recall.keep_leaf(leaf, cut, alone, path)
        except StatesLost:
            self.unsaved.append((outcome, cut))
        except SaveFailed as error:
            self.emit(outcome.model_copy(update={"error": _unsaved(error)}), cut, candidate, None)
        else:
            self.emit(outcome, cut, candidate, LocalArtifact(name=name, path=str(path), media_type=MEDIA_TYPE))

    def emit(self, outcome: OutcomeEvent, cut: Cut, candidate: int, file: LocalArtifact | None) -> None:
        """Hand an outcome out."""
        if file is not None:
            outcome = outcome.model_copy(update={"artifact": file.name})
        self.tally.count(outcome, cut.source)
        self.run.progress.failed += outcome.error is not None
        self._rank(outcome, candidate)
        if file is None:
            self.run.report(outcome)
        else:
            self.run.report(outcome, (file,))

    def _rank(self, outcome: OutcomeEvent, candidate: int) -> None:
        definition = self.tally.plan.definition
        if self.tally.round is not None:
            self.means[candidate] = plain(outcome.mean)
        if definition.action is Action.SEARCH and not isinstance(definition.refit, bool | str):
            self.tables.append(outcome)
        if definition.best is not None:
            self._rank_cell(outcome, *definition.best.split(":", 1))

    def _rank_cell(self, outcome: OutcomeEvent, sense: str, metric: str) -> None:
        metrics: Mapping[str, object] = outcome.metrics or {}
        if metric in metrics:
            value = plain(metrics[metric])  # type: ignore[arg-type]
            place = (-value if sense == "max" else value, outcome.candidate)
            if value == value:  # noqa: PLR0124 - not NaN
                self.best_metric = place if self.best_metric is None else min(self.best_metric, place)


def _unsaved(error: Exception) -> ErrorDetail:
    return ErrorDetail(type=type(error).__name__, message=str(error))
