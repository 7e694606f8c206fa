"""`map`: rows in blocks, in order, each an outcome of its own; their size adapts where none is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from flaregate_wire.planning import Step
from flaregate_wire.planning.blocks import Span, bounds
from flaregate_wire.planning.families import Member, every_family, grow
from worker_image.engine.drive import IN_FLIGHT_A_SLOT, PAUSE_SECONDS
from worker_image.engine.gather import Gather
from worker_image.engine.outcomes import Tally
from worker_image.engine.recall import Recall
from worker_image.engine.run import Run
from worker_image.engine.schedule import LOSSES, loss_error
from worker_image.engine.tasks import Cut, Done, Loss, Report, Task

BLOCK_SECONDS = 0.5
"""What a block should take: long against its overhead, short against a person's patience."""
BLOCKS_A_SLOT = 4
FIRST_ROWS = 16
"""Rows of the first blocks, while nothing is known of their pace."""
_CUT = Cut()


def next_size(pace: float | None, rows: int, left: int, slots: int) -> int:
    """Rows of the next block: `pace` seconds each, as far as measured, `left` of `rows` still to come."""
    fair = max(1, rows // (BLOCKS_A_SLOT * slots))
    if pace is None:
        return min(FIRST_ROWS, fair, left)
    return max(1, min(int(BLOCK_SECONDS / max(pace, 1e-9)), fair, left))


@dataclass(slots=True)
class Mapped:
    """One run of a map."""

    run: Run
    recall: Recall
    _next: int = 0
    _block: int = 0
    _pace: float | None = None

    def every_block(self) -> Tally:
        """Run them all; gives the tally of their outcomes."""
        run, planned = self.run, self.run.plan
        forest = grow(every_family(planned))
        leaf = forest.families[0].leaf
        rows = run.summary.sources[0].rows
        fixed = None if run.definition.blocks is None else bounds(rows, run.definition.blocks)
        run.progress.total = rows
        gather = Gather(run, Tally(planned, run.summary, {0: (_CUT,)}, run.now, run.attempt), self.recall, forest)
        known = self.recall.blocks(leaf, _CUT)
        running = 0
        while not gather.stopped:
            slots = max(run.runner.slots(), 1)
            while running < IN_FLIGHT_A_SLOT * slots and (span := self._span(fixed, known, rows, slots)) is not None:
                running += self._begin(gather, leaf, span, known)
            if not running:
                break
            for done in run.runner.wait(PAUSE_SECONDS):
                running -= 1
                running += self._take_in(gather, done)
            gather.pause()
        return gather.tally

    def _span(self, fixed: list[Span] | None, known: Mapping[Span, Report], rows: int, slots: int) -> Span | None:
        """The next block: as asked for, as an earlier run cut it, or as the pace says."""
        if fixed is not None:
            return fixed[self._block] if self._block < len(fixed) else None
        if self._next >= rows:
            return None
        earlier = next((span for span in known if span[0] == self._next and span[1] <= rows), None)
        stop = self._next + next_size(self._pace, rows, rows - self._next, slots)
        return earlier or (self._next, stop)

    def _begin(self, gather: Gather, leaf: Step, span: Span, known: Mapping[Span, Report]) -> int:
        """Submit a block, or hand out what is known of it; gives how many tasks that started."""
        member = Member(self.recall.block(leaf, span), (self._block,))
        self._next, self._block = span[1], self._block + 1
        report = known.get(span)
        if report is not None:
            self._ended(gather, None, member, span, report)
            return 0
        self.run.drive.tasks += 1
        needs = getattr(self.run.definition.pipeline.nodes[0], "needs", None)
        self.run.runner.submit(Task(self.run.drive.tasks, _CUT, (), members=(member,), rows=span, needs=needs))
        return 1

    def _take_in(self, gather: Gather, done: Done) -> int:
        task = done.task
        span = task.rows or (0, 0)
        self.run.drive.seconds += done.seconds
        if done.loss is not None and task.tries < _tries(done):
            self.run.runner.submit(replace(task, tries=task.tries + 1))
            return 1
        if done.loss is not None:
            gather.failed(task.members[0], _CUT, loss_error(done))
            self.run.progress.done += span[1] - span[0] - 1
        else:
            self.run.drive.hosts.setdefault(done.host)
            pace = done.seconds / (span[1] - span[0])
            self._pace = pace if self._pace is None else (self._pace + pace) / 2
            self._ended(gather, task, task.members[0], span, done.reports[0])
        return 0

    def _ended(self, gather: Gather, task: Task | None, member: Member, span: Span, report: Report) -> None:
        gather.leaf(task, 0, member, _CUT, report)
        self.run.progress.done += span[1] - span[0] - 1  # a leaf counts one; here rows are counted


def _tries(done: Done) -> int:
    if done.loss in (Loss.NODE_LOST, Loss.INPUT_LOST):
        return LOSSES
    return 0 if done.task.needs is None else done.task.needs.retries
