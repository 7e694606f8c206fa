"""Runs a job: every candidate on every cut, outcomes as they are complete, and what it leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flaregate import versions
from flaregate_wire.definitions import FOLDED, Action, Sample
from flaregate_wire.events import ErrorDetail, OutcomeEvent
from flaregate_wire.jobs import Result, Stats
from flaregate_wire.planning import Plan, plan
from flaregate_wire.planning.families import Forest, every_family, grow
from flaregate_wire.states import Reason
from worker_image.engine.choosing import rows_of
from worker_image.engine.gather import Gather
from worker_image.engine.halving import CannotHalve, best_of, round_definition, rounds, survivors
from worker_image.engine.mapping import Mapped
from worker_image.engine.outcomes import Round, Tally
from worker_image.engine.prepare import Summary
from worker_image.engine.recall import Recall
from worker_image.engine.refit import Refit
from worker_image.engine.run import Run
from worker_image.engine.runner import SaveFailed
from worker_image.engine.schedule import Schedule
from worker_image.engine.tasks import Cut
from worker_image.work import Finished, LocalArtifact

BEST = "best"


@dataclass(slots=True)
class Engine(Run):
    """Runs one job to its end."""

    _artifacts: list[LocalArtifact] = field(default_factory=list)
    _refit: Refit | None = None
    _best: int | None = None
    _message: str | None = None

    def run(self, summary: Summary) -> Finished:
        """Run everything on a runner that is prepared and gave `summary`."""
        self.summary = summary
        self.reached("first_task")
        if self.definition.action is Action.MAP:
            tally = Mapped(self, self._recall(self.plan)).every_block()
        elif self.definition.halving is not None:
            try:
                tally = self._halve()
            except CannotHalve as error:
                return Finished(succeeded=False, reason=Reason.USER_ERROR, message=str(error))
        else:
            tally = self._run()
        self.progress.say(always=True)
        self.reached("last_task")
        return self._finished(tally)

    def _recall(self, planned: Plan) -> Recall:
        return Recall(planned, self.summary, self.cache, self.job, self.scratch)

    def _cuts(self, resources: int = 0) -> dict[int, tuple[Cut, ...]]:
        """By source object: every cut of it."""
        sources = enumerate(self.summary.sources)
        if self.definition.action not in FOLDED:
            return {number: (Cut(number),) for number, _ in sources}
        return {
            number: tuple(Cut(number, fold, resources) for fold in range(source.folds)) for number, source in sources
        }

    # Every candidate on every cut

    def _run(self) -> Tally:
        forest = grow(every_family(self.plan))
        cuts = self._cuts()
        self.progress.total = forest.tasks * sum(map(len, cuts.values()))
        gather = self._gathered(self.plan, forest, cuts)
        if not gather.stopped:
            self.progress.done = self.progress.total
            self._finish_fits(gather)
            self._choose(gather)
        return gather.tally

    def _gathered(
        self, planned: Plan, forest: Forest, cuts: Mapping[int, tuple[Cut, ...]], round_: Round | None = None
    ) -> Gather:
        recall = self._recall(planned)
        every = tuple(cut for several in zip(*cuts.values(), strict=False) for cut in several)
        every = tuple(dict.fromkeys((*every, *(cut for several in cuts.values() for cut in several))))
        recall.look_up(forest, every)
        gather = Gather(self, Tally(planned, self.summary, cuts, self.now, self.attempt, round_), recall, forest)
        self.drive.load = recall.load
        self.drive.run(Schedule(planned, forest, every, recall), gather)
        return gather

    def _finish_fits(self, gather: Gather) -> None:
        """Fit once more, by themselves, the candidates whose states were lost."""
        for outcome, cut in gather.unsaved:
            refit = Refit(self, self.plan, gather.recall, outcome.candidate, cut, f"pipeline-{outcome.candidate}")
            refit.fit()
            changed = outcome.model_copy(update={"error": refit.error})
            gather.emit(changed, cut, outcome.candidate, refit.artifact)

    def _choose(self, gather: Gather) -> None:
        """The best candidate, fitted on all rows where that is asked for."""
        tally = gather.tally
        if gather.best_metric is not None:
            self._best = gather.best_metric[1]
        elif self.definition.action is Action.FIT and len(self.plan) == 1:
            self._best = 0
        elif tally.best is not None:
            self._best = tally.best[1]
        source = tally.best[2] if tally.best is not None else 0
        refit = self.definition.refit
        if self.definition.action is not Action.SEARCH or refit is False:
            return
        if not isinstance(refit, bool | str):
            self._best = self._chosen(gather.tables)
        if self._best is not None:
            self._refitted(self.plan, gather.recall, self._best, source)

    def _chosen(self, outcomes: Sequence[OutcomeEvent]) -> int | None:
        """The candidate that the user's function takes from the table."""
        ordered = sorted(outcomes, key=lambda outcome: outcome.candidate)
        try:
            place = self.runner.choose(rows_of(ordered))
            return ordered[place].candidate
        except SaveFailed as error:
            self._message = f"refit could not choose a candidate: {error}"
            return None

    def _refitted(self, planned: Plan, recall: Recall, candidate: int, source: int) -> None:
        self._refit = Refit(self, planned, recall, candidate, Cut(source), BEST)
        self._refit.fit()
        if self._refit.artifact is not None:
            self._artifacts.append(self._refit.artifact)

    # Successive halving

    def _halve(self) -> Tally:
        halving, source = self.definition.halving, self.summary.sources[0]
        assert halving is not None  # noqa: S101 - asked for only then
        through = rounds(halving, len(self.plan), source.rows, source.folds, source.classes)
        samples = [self.plan.sample(index) for index in range(len(self.plan))]
        before = _Before()
        iteration = 0
        while True:
            gather = self._round(samples, Round(iteration, through.resources[iteration], before.candidates))
            before.add(gather.tally)
            iteration += 1
            if gather.stopped or iteration == len(through.resources):
                self._choose_last(gather, before.candidates - len(samples))
                return before.tally(gather.tally)
            samples = [samples[candidate] for candidate in survivors(gather.means, through.factor)]

    def _round(self, samples: Sequence[Sample], round_: Round) -> Gather:
        """Run one round to its end."""
        planned = plan(round_definition(self.definition, samples, round_.resources))
        forest = grow(every_family(planned))
        by_rows = self.definition.halving is not None and self.definition.halving.resource == "n_samples"
        cuts = self._cuts(round_.resources if by_rows else 0)
        self.progress.total = self.progress.done + forest.tasks * sum(map(len, cuts.values()))
        gather = self._gathered(planned, forest, cuts, round_)
        self.progress.done = self.progress.total
        return gather

    def _choose_last(self, gather: Gather, first: int) -> None:
        """The best candidate of the last round; it is fitted on all rows where that is asked for."""
        if gather.stopped:
            return
        best = best_of(gather.means)
        self._best = first + best
        if self.definition.refit is not False and gather.tally.best is not None:
            self._refitted(gather.tally.plan, gather.recall, best, 0)

    # The end

    def _finished(self, tally: Tally) -> Finished:
        progress = self.progress
        result = Result(
            outcomes=tally.ended,
            failed=tally.failed,
            best=self._best,
            refit_time=None if self._refit is None else self._refit.seconds,
            stats=Stats(
                tasks=self.drive.tasks,
                fits=dict(progress.fits),
                refits=dict(progress.refits),
                inner_fits=dict(progress.inner_fits),
                cached=progress.cached,
                seconds=round(self.drive.seconds, 3),
                hosts=tuple(self.drive.hosts),
                runner=self.runner.name,
            ),
            versions=versions.here(),
        )
        reason, message = self._verdict(tally)
        return Finished(
            succeeded=reason in (None, Reason.SOME_CANDIDATES_FAILED),
            reason=reason,
            message=message,
            result=result,
            artifacts=tuple(self._artifacts),
        )

    def _verdict(self, tally: Tally) -> tuple[Reason | None, str | None]:
        if tally.first_error is not None:
            first = f"{tally.first_error.type}: {tally.first_error.message}"
            if tally.failed == tally.ended:
                return Reason.USER_ERROR, f"all {tally.ended} candidates failed; the first with {first}"
            if self.definition.fail_fast or self.definition.error_score == "raise":
                word = "fail_fast" if self.definition.fail_fast else "error_score='raise'"
                return Reason.USER_ERROR, f"a candidate failed, and {word} ends the job then: {first}"
            return Reason.SOME_CANDIDATES_FAILED, f"{tally.failed} of {tally.ended} candidates failed; one with {first}"
        if self._message is not None:
            return Reason.USER_ERROR, self._message
        refit = None if self._refit is None else self._refit.error
        if refit is not None:
            message = f"the best candidate could not be fitted on all rows: {refit.type}: {refit.message}"
            return Reason.USER_ERROR, message
        return None, None


@dataclass(slots=True)
class _Before:
    """What the rounds of a halving search gave together."""

    candidates: int = 0
    ended: int = 0
    failed: int = 0
    error: ErrorDetail | None = None

    def add(self, tally: Tally) -> None:
        self.candidates += len(tally.plan)
        self.ended += tally.ended
        self.failed += tally.failed
        self.error = self.error or tally.first_error

    def tally(self, last: Tally) -> Tally:
        """The last round's, with the counts of all."""
        last.ended, last.failed, last.first_error = self.ended, self.failed, self.error
        return last
