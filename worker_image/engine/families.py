"""The steps above the leaves, and the families of leaves that share them. Pure, made once for a job."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from flaregate_wire.digests import canonical
from flaregate_wire.planning import Plan, Step
from worker_image.engine.tasks import Member


@dataclass(frozen=True, slots=True)
class Family:
    """Consecutive candidates of one path that differ in the leaf's own axes only."""

    start: int
    size: int
    leaves: int
    """Distinct ones: fewer than candidates where a value stands twice on an axis of the leaf."""
    above: tuple[Step, ...]
    """Every step above the leaf, predecessors first."""
    leaf: Step
    """The leaf of the first candidate."""

    def members(self, plan: Plan) -> Iterator[Member]:
        """Its leaves in candidate order, made one by one unless values repeat."""
        every = (Member(self._leaf(plan, index), (index,)) for index in range(self.start, self.start + self.size))
        if self.leaves == self.size:
            yield from every
            return
        grouped: dict[str, list[Member]] = {}
        for member in every:
            grouped.setdefault(member.step.digest, []).append(member)
        for same in grouped.values():
            yield Member(same[0].step, tuple(index for member in same for index in member.candidates))

    def _leaf(self, plan: Plan, index: int) -> Step:
        return self.leaf if index == self.start else plan.steps(plan.candidate(index))[-1]


@dataclass(slots=True)
class Upstream:
    """A step above the leaves and what waits for it."""

    step: Step
    first: int
    """The first family that needs it."""
    rank: int
    """Its place in the order of first need."""
    steps: list[str] = field(default_factory=list)
    """Digests of the steps that it feeds."""
    families: list[int] = field(default_factory=list)
    """The families whose leaves it feeds."""

    @property
    def consumers(self) -> int:
        """How many steps and families read what it makes, on each fold."""
        return len(self.steps) + len(self.families)


@dataclass(frozen=True, slots=True)
class Forest:
    """All families of a run, and the steps above them by digest."""

    families: tuple[Family, ...]
    above: dict[str, Upstream]

    @property
    def tasks(self) -> int:
        """Distinct steps on one fold."""
        return len(self.above) + sum(family.leaves for family in self.families)


def every_family(plan: Plan) -> Iterator[Family]:
    """All families of a plan, in candidate order. The leaf's axes run fastest, so each is a run of candidates."""
    start = 0
    while start < len(plan):
        path = plan.candidate(start).path
        axes = [axis.values for axis in plan.axes_of(path) if axis.node == path.leaf]
        size = math.prod(len(values) for values in axes)
        leaves = math.prod(len({canonical(value) for value in values}) for values in axes)
        yield _family(plan, start, size, leaves)
        start += size


def lone_family(plan: Plan, candidate: int) -> Family:
    """One candidate by itself, for its refit."""
    return _family(plan, candidate, 1, 1)


def _family(plan: Plan, start: int, size: int, leaves: int) -> Family:
    *above, leaf = plan.steps(plan.candidate(start))
    return Family(start, size, leaves, tuple(above), leaf)


def grow(families: Iterable[Family]) -> Forest:
    """Who feeds whom in these families; a step that several share stands once."""
    listed = tuple(families)
    above: dict[str, Upstream] = {}
    for number, family in enumerate(listed):
        for step in family.above:
            if step.digest in above:
                continue
            above[step.digest] = Upstream(step, number, len(above))
            for source in set(step.inputs):
                above[source].steps.append(step.digest)
        for source in set(family.leaf.inputs):
            above[source].families.append(number)
    return Forest(listed, above)
