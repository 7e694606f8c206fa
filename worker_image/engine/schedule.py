"""Which task may run next. Decisions on plain data alone: no clock, no data, no process.

A step runs when its inputs are there, never when its level is. Steps go in candidate order, a little ahead of the
leaves, so that the first outcomes are early and few intermediate results are held; of the leaves that are ready those
go first that take longest, so that none is left for the end.
"""

import heapq
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Protocol

from flaregate_wire.definitions import FITS, JoinNode, ModelNode, Needs
from flaregate_wire.events import ErrorDetail
from flaregate_wire.planning import Plan
from flaregate_wire.planning.families import Family, Forest, Member, Unit
from worker_image.engine.batches import Batches, batch_size
from worker_image.engine.tasks import ALL_ROWS, Cut, Done, Key, Loss, Report, Task

LOSSES = 5
"""A task that was lost with its machine more often is given up."""
AHEAD = 2
"""Families for each slot whose steps may run before the leaves of the first family that is ready."""
_USUAL = Needs()


class Known(Protocol):
    """What need not be computed."""

    def leaves(self, family: Family, cut: Cut) -> Mapping[str, Report]:
        """The reports of this family's leaves that are known on this cut, by digest."""
        ...

    def stored(self, unit: Unit, cut: Cut) -> bool:
        """Whether what this unit makes of this cut can be loaded."""
        ...


class NothingKnown:
    """Everything is computed."""

    def leaves(self, family: Family, cut: Cut) -> Mapping[str, Report]:
        return {}

    def stored(self, unit: Unit, cut: Cut) -> bool:
        return False


class _Mark(Enum):
    WAITING = auto()
    RUNNING = auto()
    HELD = auto()
    RELEASED = auto()


@dataclass(slots=True)
class _Result:
    """What one unit makes of one cut."""

    stored: bool
    consumers: int = 1
    """Units and families that still have to read it."""
    mark: _Mark = _Mark.WAITING
    made: int = 0
    """How often it was made: more than once only after losses."""
    error: ErrorDetail | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Leaves that give an error on this cut without running, or ran and were lost for good."""

    cut: Cut
    members: tuple[Member, ...]
    error: ErrorDetail


@dataclass(frozen=True, slots=True)
class Load:
    """A result that is to be loaded instead of computed."""

    unit: Unit
    cut: Cut

    @property
    def key(self) -> Key:
        """Where it is to be held."""
        return self.unit.digest, self.cut


@dataclass(slots=True)
class Schedule:
    """The state of a run. `take` what may run now; say what is `done`; `releases` lists results no longer needed."""

    plan: Plan
    forest: Forest
    cuts: tuple[Cut, ...]
    known: Known = field(default_factory=NothingKnown)
    releases: list[Key] = field(default_factory=list)
    _results: dict[Key, _Result] = field(default_factory=dict)
    _batches: list[Batches] = field(default_factory=list)
    _unread: dict[tuple[int, Cut], int] = field(default_factory=dict)
    """By (family, cut): leaves that have not ended."""
    _places: dict[Cut, int] = field(default_factory=dict)
    _steps: list[tuple[int, int, int, str]] = field(default_factory=list)
    """A heap of (first family, rank, place of the cut, digest)."""
    _leaves: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)
    """By node, a heap of (family, number of the batch, place of the cut)."""
    _again: deque[Task] = field(default_factory=deque)
    _blocked: dict[Key, list[Task]] = field(default_factory=dict)
    _reading: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """By running task: which making of each of its inputs it reads."""
    _families: dict[int, int] = field(default_factory=dict)
    """By leaf task that has not ended: its family."""
    _pace: dict[str, float] = field(default_factory=dict)
    """Seconds that a leaf takes, by node."""
    _needs: dict[str, Needs] = field(default_factory=dict)
    """Of nodes that need more than one CPU and a try."""
    _left: int = 0
    """Leaves on cuts for which no task has been made."""
    _tasks: int = 0

    def __post_init__(self) -> None:
        self._places = {cut: place for place, cut in enumerate(self.cuts)}
        for node in self.plan.definition.pipeline.nodes:
            if not isinstance(node, JoinNode | ModelNode) and node.needs != _USUAL:
                self._needs[node.name] = node.needs
        for number, family in enumerate(self.forest.families):
            self._leaves.setdefault(family.leaf.node, [])
            asking = sum(self._open(number, family, cut) for cut in self.cuts)
            self._batches.append(Batches(family.members(self.plan), asking))

    def _open(self, number: int, family: Family, cut: Cut) -> bool:
        """Need what the family's leaves on this cut read, unless all of them are known; gives whether any is not."""
        known = self.known.leaves(family, cut)
        unknown = family.leaves
        if known:
            unknown -= sum(member.step.digest in known for member in family.members(self.plan))
        self._unread[number, cut] = unknown
        self._left += unknown
        if unknown:
            for digest in dict.fromkeys(family.leaf.inputs):
                self._need((digest, cut))
            if not family.leaf.inputs:
                self._push_leaves(number, 0, cut)
        return bool(unknown)

    def _need(self, key: Key) -> None:
        """One more reader of a result; the first has it made."""
        if key in self._results:
            self._results[key].consumers += 1
            return
        unit = self.forest.above[key[0]]
        self._results[key] = _Result(self.known.stored(unit, key[1]))
        if self._results[key].stored:
            self._push_step(key)
        else:
            self._need_inputs(key)

    def _need_inputs(self, key: Key) -> None:
        unit = self.forest.above[key[0]]
        for digest in dict.fromkeys(unit.inputs):
            self._need((digest, key[1]))
        if self._all_made(unit.inputs, key[1]):
            self._push_step(key)

    def given(self) -> Iterator[tuple[Member, Cut, Report]]:
        """Every leaf that is known, with its report."""
        for family in self.forest.families:
            known = {cut: self.known.leaves(family, cut) for cut in self.cuts}
            if not any(known.values()):
                continue
            for member in family.members(self.plan):
                for cut, reports in known.items():
                    report = reports.get(member.step.digest)
                    if report is not None:
                        yield member, cut, report

    # What may run

    def take(self, slots: int) -> Task | Verdict | Load | None:
        """The next task, a result to load, or leaves that failed with a step above; None while all must wait."""
        while True:
            task = self._again.popleft() if self._again else self._next(slots)
            if task is None:
                return None
            if isinstance(task, Load):
                return task
            started = self._start(task)
            if started is not None:
                return started

    @property
    def exhausted(self) -> bool:
        """Whether every task has been taken: what runs now is the last, unless something is lost."""
        return not (self._left or self._again or self._blocked)

    def _next(self, slots: int) -> Task | Load | None:
        while True:
            heap = self._longest()
            if self._steps and (heap is None or self._steps[0][0] <= self._first_open() + AHEAD * slots):
                _, _, place, digest = heapq.heappop(self._steps)
                return self._step_task((digest, self.cuts[place]))
            if heap is None:
                return None
            task = self._leaf_task(*heapq.heappop(heap), slots)
            if task is not None:
                return task

    def _longest(self) -> list[tuple[int, int, int]] | None:
        """The leaves of the node that takes longest, as far as that is known; first those not tried yet, in order."""
        ready = {node: heap for node, heap in self._leaves.items() if heap}
        if not ready:
            return None
        untried = [node for node in ready if node not in self._pace]
        if untried:
            return min((ready[node] for node in untried), key=lambda heap: heap[0])
        return ready[max(ready, key=lambda node: self._pace[node])]

    def _first_open(self) -> int:
        return min(heap[0][0] for heap in self._leaves.values() if heap)

    def _step_task(self, key: Key) -> Task | Load:
        unit = self.forest.above[key[0]]
        if self._results[key].stored:
            self._results[key].mark = _Mark.RUNNING
            return Load(unit, key[1])
        return self._task(key[1], unit.inputs, steps=tuple(unit.steps))

    def _leaf_task(self, number: int, batch: int, place: int, slots: int) -> Task | None:
        family, cut = self.forest.families[number], self.cuts[place]
        lone = family.leaf.node in self._needs or self._keeps_state(cut)
        size = 1 if lone else batch_size(self._pace.get(family.leaf.node), self._left, slots)
        members = self._batches[number].take(batch, size)
        if not members:
            return None
        self._push_leaves(number, batch + 1, cut)
        known = self.known.leaves(family, cut)
        members = tuple(member for member in members if member.step.digest not in known) if known else members
        if not members:
            return None
        self._left -= len(members)
        task = self._task(cut, family.leaf.inputs, members=members)
        self._families[task.number] = number
        return task

    def _start(self, task: Task) -> Task | Verdict | None:
        """The task if its inputs are there, a verdict if one failed; else it waits for one that is on its way."""
        for key in task.inputs:
            result = self._results[key]
            if result.mark is not _Mark.HELD:
                self._blocked.setdefault(key, []).append(task)
                if result.mark is _Mark.RELEASED:
                    self._remake_if_lost(key, -1)
                return None
            if result.error is not None:
                return next(iter(self._given_up(task, result.error)), None)
        if not task.leaf:
            self._results[task.key].mark = _Mark.RUNNING
        self._reading[task.number] = tuple(self._results[key].made for key in task.inputs)
        return task

    def _task(self, cut: Cut, inputs: tuple[str, ...], **what: tuple[object, ...]) -> Task:
        self._tasks += 1
        keeps = self._keeps_state(cut)
        read = tuple((source, cut) for source in inputs)
        task = Task(self._tasks, cut, read, keeps_state=keeps, **what)  # type: ignore[arg-type]
        needs = self._needs.get(task.step.node)
        return task if needs is None else replace(task, needs=needs)

    def _keeps_state(self, cut: Cut) -> bool:
        """Whether fitted objects are wanted: where something is fitted on all rows."""
        return cut.fold == ALL_ROWS and self.plan.definition.action in FITS

    def _push_step(self, key: Key) -> None:
        unit = self.forest.above[key[0]]
        heapq.heappush(self._steps, (unit.first, unit.rank, self._places[key[1]], key[0]))

    def _push_leaves(self, number: int, batch: int, cut: Cut) -> None:
        heap = self._leaves[self.forest.families[number].leaf.node]
        heapq.heappush(heap, (number, batch, self._places[cut]))

    # What has ended

    def loaded(self, load: Load, *, there: bool) -> None:
        """A result was loaded; or it was not there, and is computed after all."""
        if there:
            self._made(load.key, None, ())
            return
        result = self._results[load.key]
        result.stored, result.mark = False, _Mark.WAITING
        self._need_inputs(load.key)

    def done(self, done: Done) -> tuple[Verdict, ...]:
        """Take in the end of a task; gives the leaves that will not be tried again."""
        task = done.task
        reading = self._reading.pop(task.number)
        if done.loss is not None:
            return self._lost(done, reading)
        if task.leaf:
            self._measure(done)
            self._read(self._families.pop(task.number), task.cut, len(task.members))
        else:
            error = next((report.error for report in done.reports if report.error is not None), None)
            self._made(task.key, error, task.inputs)
        return ()

    def _measure(self, done: Done) -> None:
        node = done.task.step.node
        pace = done.seconds / len(done.task.members)
        before = self._pace.get(node)
        self._pace[node] = pace if before is None else (before + pace) / 2

    def _made(self, key: Key, error: ErrorDetail | None, inputs: tuple[Key, ...]) -> None:
        """A unit has ended: wake what waits for it."""
        result = self._results[key]
        result.mark, result.error = _Mark.HELD, error
        result.made += 1
        for source in set(inputs):
            self._consumed(source)
        self._again.extend(self._blocked.pop(key, ()))
        self._release_if_read(key)
        if result.made > 1:
            return
        unit, cut = self.forest.above[key[0]], key[1]
        for digest in unit.units:
            waiting = self._results.get((digest, cut))
            if waiting is not None and not waiting.stored and self._all_made(self.forest.above[digest].inputs, cut):
                self._push_step((digest, cut))
        for number in unit.families:
            if self._unread[number, cut] and self._all_made(self.forest.families[number].leaf.inputs, cut):
                self._push_leaves(number, 0, cut)

    def _all_made(self, digests: tuple[str, ...], cut: Cut) -> bool:
        return all(self._results[digest, cut].made for digest in digests)

    def _read(self, number: int, cut: Cut, leaves: int) -> None:
        self._unread[number, cut] -= leaves
        if not self._unread[number, cut]:
            for digest in set(self.forest.families[number].leaf.inputs):
                self._consumed((digest, cut))

    def _consumed(self, key: Key) -> None:
        result = self._results[key]
        result.consumers -= 1
        self._release_if_read(key)

    def _release_if_read(self, key: Key) -> None:
        result = self._results[key]
        if not result.consumers and result.mark is _Mark.HELD:
            result.mark = _Mark.RELEASED
            self.releases.append(key)

    # What was lost

    def _lost(self, done: Done, reading: tuple[int, ...]) -> tuple[Verdict, ...]:
        task = done.task
        own = done.loss in (Loss.DIED, Loss.TIMED_OUT)
        if task.leaf and done.reports:
            self._read(self._families[task.number], task.cut, len(done.reports))
            if len(done.reports) == len(task.members):
                del self._families[task.number]
                return ()
        if own and len(task.members) > 1:
            self._alone(task, task.members[len(done.reports) :])
            return ()
        if task.tries >= (self._retries(task) if own else LOSSES):
            return self._given_up(task, loss_error(done))
        if done.loss is Loss.INPUT_LOST:
            for key, made in zip(task.inputs, reading, strict=True):
                self._remake_if_lost(key, made)
        if not task.leaf:
            self._results[task.key].mark = _Mark.WAITING
        self._again.append(replace(task, members=task.members[len(done.reports) :], tries=task.tries + 1))
        return ()

    def _retries(self, task: Task) -> int:
        return 0 if task.needs is None else task.needs.retries

    def _alone(self, task: Task, members: tuple[Member, ...]) -> None:
        """A batch died: what it had not finished runs again one by one, so that only the one that kills is blamed."""
        number = self._families.pop(task.number)
        for member in members:
            self._tasks += 1
            single = replace(task, number=self._tasks, members=(member,))
            self._families[single.number] = number
            self._again.append(single)

    def _given_up(self, task: Task, error: ErrorDetail) -> tuple[Verdict, ...]:
        if not task.leaf:
            self._made(task.key, error, task.inputs)
            return ()
        self._read(self._families.pop(task.number), task.cut, len(task.members))
        return (Verdict(task.cut, task.members, error),)

    def _remake_if_lost(self, key: Key, made: int) -> None:
        """Have a result made again, unless a newer making than the one that was `made` then is there or on its way."""
        result = self._results[key]
        if result.mark is _Mark.RELEASED or (result.mark is _Mark.HELD and result.made == made):
            result.mark, result.stored = _Mark.WAITING, False
            unit = self.forest.above[key[0]]
            for digest in dict.fromkeys(unit.inputs):
                source = (digest, key[1])
                if source in self._results:
                    self._results[source].consumers += 1
                    self._remake_if_lost(source, -1)
                else:
                    self._need(source)
            self._again.append(self._task(key[1], unit.inputs, steps=tuple(unit.steps)))


def loss_error(done: Done) -> ErrorDetail:
    """What is told of a leaf that was lost for good."""
    task = done.task
    if done.loss is Loss.TIMED_OUT and task.needs is not None:
        message = f"took longer than the {task.needs.timeout:g} s that node {task.step.node!r} allows"
        return ErrorDetail(type="TaskTimedOut", message=message)
    return ErrorDetail(type="WorkerDied", message=done.message)
