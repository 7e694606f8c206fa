"""Which task may run next. Decisions on plain data alone: no clock, no data, no process.

A step runs when its inputs are there, never when its level is. Families come in candidate order, so that the first
outcomes are early and few intermediate results are held.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from flaregate_wire.events import ErrorDetail
from flaregate_wire.planning import Plan
from worker_image.engine.batches import Batches, batch_size
from worker_image.engine.families import Forest
from worker_image.engine.tasks import Done, Key, Loss, Member, Task

LOSSES = 5
"""A task that was lost with its machine more often is given up."""


class _Mark(Enum):
    WAITING = auto()
    RUNNING = auto()
    HELD = auto()
    RELEASED = auto()


@dataclass(slots=True)
class _Result:
    """One step above the leaves on one fold."""

    consumers: int
    """Steps and families that still have to read it."""
    mark: _Mark = _Mark.WAITING
    made: int = 0
    """How often it was made: more than once only after losses."""
    error: ErrorDetail | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Leaves that give an error on this fold without running, or ran and were lost for good."""

    fold: int
    members: tuple[Member, ...]
    error: ErrorDetail


@dataclass(slots=True)
class Schedule:
    """The state of a run. `take` what may run now; say what is `done`; `releases` lists results no longer needed."""

    plan: Plan
    forest: Forest
    folds: tuple[int, ...]
    releases: list[Key] = field(default_factory=list)
    _results: dict[Key, _Result] = field(default_factory=dict)
    _batches: list[Batches] = field(default_factory=list)
    _unread: dict[tuple[int, int], int] = field(default_factory=dict)
    """By (family, fold): leaves that have not ended."""
    _ready: list[tuple[int, int, int, int, str]] = field(default_factory=list)
    """A heap of (family, 0 a step or 1 leaves, rank or number of the batch, fold, digest)."""
    _again: deque[Task] = field(default_factory=deque)
    _blocked: dict[Key, list[Task]] = field(default_factory=dict)
    _reading: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """By running task: which making of each of its inputs it reads."""
    _families: dict[int, int] = field(default_factory=dict)
    """By leaf task that has not ended: its family."""
    _pace: dict[str, float] = field(default_factory=dict)
    """Seconds that a leaf takes, by node."""
    _left: int = 0
    """Leaves on folds for which no task has been made."""
    _tasks: int = 0

    def __post_init__(self) -> None:
        for number, family in enumerate(self.forest.families):
            self._batches.append(Batches(family.members(self.plan), len(self.folds)))
            self._left += family.leaves * len(self.folds)
            for fold in self.folds:
                self._unread[number, fold] = family.leaves
                if not family.leaf.inputs:
                    self._push_leaves(number, 0, fold)
        for digest, upstream in self.forest.above.items():
            for fold in self.folds:
                self._results[digest, fold] = _Result(upstream.consumers)
                if not upstream.step.inputs:
                    self._push_step((digest, fold))

    # What may run

    def take(self, slots: int) -> Task | Verdict | None:
        """The next task, or leaves that failed with a step above them; None while what is left must wait."""
        while self._again or self._ready:
            task = self._again.popleft() if self._again else self._from_heap(slots)
            started = None if task is None else self._start(task)
            if started is not None:
                return started
        return None

    def _from_heap(self, slots: int) -> Task | None:
        family, leaves, number, fold, digest = heapq.heappop(self._ready)
        return self._leaf_task(family, number, fold, slots) if leaves else self._step_task((digest, fold))

    def _step_task(self, key: Key) -> Task:
        step = self.forest.above[key[0]].step
        return self._task(key[1], step.inputs, (Member(step, ()),), leaf=False)

    def _leaf_task(self, number: int, batch: int, fold: int, slots: int) -> Task | None:
        leaf = self.forest.families[number].leaf
        members = self._batches[number].take(batch, batch_size(self._pace.get(leaf.node), self._left, slots))
        if not members:
            return None
        self._left -= len(members)
        self._push_leaves(number, batch + 1, fold)
        task = self._task(fold, leaf.inputs, members, leaf=True)
        self._families[task.number] = number
        return task

    def _start(self, task: Task) -> Task | Verdict | None:
        """The task if its inputs are there, a verdict if one failed; else it waits for one that is on its way."""
        for key in task.inputs:
            result = self._results[key]
            if result.mark is not _Mark.HELD:
                self._blocked.setdefault(key, []).append(task)
                return None
            if result.error is not None:
                return next(iter(self._given_up(task, result.error)), None)
        if not task.leaf:
            self._results[task.key].mark = _Mark.RUNNING
        self._reading[task.number] = tuple(self._results[key].made for key in task.inputs)
        return task

    def _task(self, fold: int, inputs: tuple[str, ...], members: tuple[Member, ...], *, leaf: bool) -> Task:
        self._tasks += 1
        return Task(self._tasks, fold, tuple((source, fold) for source in inputs), members, leaf)

    def _push_step(self, key: Key) -> None:
        upstream = self.forest.above[key[0]]
        heapq.heappush(self._ready, (upstream.first, 0, upstream.rank, key[1], key[0]))

    def _push_leaves(self, number: int, batch: int, fold: int) -> None:
        heapq.heappush(self._ready, (number, 1, batch, fold, ""))

    # What has ended

    def done(self, done: Done) -> tuple[Verdict, ...]:
        """Take in the end of a task; gives the leaves that will not be tried again."""
        reading = self._reading.pop(done.task.number)
        if done.loss is not None:
            return self._lost(done, reading)
        if done.task.leaf:
            self._measure(done)
            self._read(self._families.pop(done.task.number), done.task.fold, len(done.task.members))
        else:
            self._made(done.task, done.reports[0].error)
        return ()

    def _measure(self, done: Done) -> None:
        node = done.task.step.node
        pace = done.seconds / len(done.task.members)
        before = self._pace.get(node)
        self._pace[node] = pace if before is None else (before + pace) / 2

    def _made(self, task: Task, error: ErrorDetail | None) -> None:
        """A step has ended: wake what waits for it."""
        key = task.key
        result = self._results[key]
        result.mark, result.error = _Mark.HELD, error
        result.made += 1
        for source in set(task.inputs):
            self._consumed(source)
        self._again.extend(self._blocked.pop(key, ()))
        self._release_if_read(key)
        if result.made > 1:
            return
        upstream, fold = self.forest.above[key[0]], key[1]
        for digest in upstream.steps:
            if self._all_ended(self.forest.above[digest].step.inputs, fold):
                self._push_step((digest, fold))
        for number in upstream.families:
            if self._all_ended(self.forest.families[number].leaf.inputs, fold):
                self._push_leaves(number, 0, fold)

    def _all_ended(self, digests: tuple[str, ...], fold: int) -> bool:
        return all(self._results[digest, fold].made for digest in digests)

    def _read(self, number: int, fold: int, leaves: int) -> None:
        self._unread[number, fold] -= leaves
        if not self._unread[number, fold]:
            for digest in set(self.forest.families[number].leaf.inputs):
                self._consumed((digest, fold))

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
        if done.loss is Loss.DIED and len(task.members) > 1:
            self._alone(task)
            return ()
        if done.loss is Loss.DIED or task.tries == LOSSES:
            return self._given_up(task, ErrorDetail(type="WorkerDied", message=done.message))
        if done.loss is Loss.INPUT_LOST:
            for key, made in zip(task.inputs, reading, strict=True):
                self._remake_if_lost(key, made)
        if not task.leaf:
            self._results[task.key].mark = _Mark.WAITING
        self._again.append(replace(task, tries=task.tries + 1))
        return ()

    def _alone(self, task: Task) -> None:
        """A batch died: its members run again one by one, so that only the one that kills is blamed."""
        number = self._families.pop(task.number)
        for member in task.members:
            self._tasks += 1
            single = replace(task, number=self._tasks, members=(member,))
            self._families[single.number] = number
            self._again.append(single)

    def _given_up(self, task: Task, error: ErrorDetail) -> tuple[Verdict, ...]:
        if not task.leaf:
            self._made(task, error)
            return ()
        self._read(self._families.pop(task.number), task.fold, len(task.members))
        return (Verdict(task.fold, task.members, error),)

    def _remake_if_lost(self, key: Key, made: int) -> None:
        """Have a result made again, unless a newer making than the one that was `made` then is there or on its way."""
        result = self._results[key]
        if result.mark is _Mark.RELEASED or (result.mark is _Mark.HELD and result.made == made):
            result.mark = _Mark.WAITING
            task = self._step_task(key)
            for source in set(task.inputs):
                upstream = self._results[source]
                upstream.consumers += 1
                self._remake_if_lost(source, -1)
            self._again.append(task)
