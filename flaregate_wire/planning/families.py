"""The steps above the leaves, and the families of leaves that share them. Pure, made once for a run."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from flaregate_wire.digests import canonical
from flaregate_wire.planning.plan import Plan, Step
from flaregate_wire.values import identity


@dataclass(frozen=True, slots=True)
class Member:
    """One leaf in one setting, and the candidates that end in it."""

    step: Step
    candidates: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """Candidates of one path that differ in the leaf's own axes only."""

    candidates: Sequence[int]
    leaves: int
    """Distinct ones: fewer than candidates where a value stands twice on an axis of the leaf."""
    above: tuple[Step, ...]
    """Every step above the leaf, predecessors first."""
    leaf: Step
    """The leaf of the first candidate."""

    def members(self, plan: Plan) -> Iterator[Member]:
        """Its leaves in candidate order, made one by one unless values repeat."""
        every = (Member(plan.leaf(index, self.leaf), (index,)) for index in self.candidates)
        if self.leaves == len(self.candidates):
            yield from every
            return
        grouped: dict[str, list[Member]] = {}
        for member in every:
            grouped.setdefault(member.step.digest, []).append(member)
        for same in grouped.values():
            yield Member(same[0].step, tuple(index for member in same for index in member.candidates))


@dataclass(slots=True)
class Unit:
    """A run of steps above the leaves, each the only reader of the one before, and what waits for the last of them."""

    steps: list[Step]
    first: int
    """The first family that needs it."""
    rank: int
    """Its place in the order of first need."""
    units: list[str] = field(default_factory=list)
    """Digests of the last steps of the units that it feeds."""
    families: list[int] = field(default_factory=list)
    """The families whose leaves it feeds."""

    @property
    def digest(self) -> str:
        """Of its last step, whose result is held."""
        return self.steps[-1].digest

    @property
    def inputs(self) -> tuple[str, ...]:
        """What its first step reads."""
        return self.steps[0].inputs


@dataclass(frozen=True, slots=True)
class Forest:
    """All families of a run, and the units above them by digest."""

    families: tuple[Family, ...]
    above: dict[str, Unit]

    @property
    def tasks(self) -> int:
        """Distinct steps on one cut."""
        return sum(len(unit.steps) for unit in self.above.values()) + sum(family.leaves for family in self.families)


def every_family(plan: Plan) -> Iterator[Family]:
    """All families of a plan, in candidate order."""
    if plan.samples is not None:
        yield from _sampled_families(plan)
        return
    start = 0
    while start < len(plan):  # the leaf's axes run fastest, so each family is a run of candidates
        path = plan.candidate(start).path
        axes = [axis.values for axis in plan.axes_of(path) if axis.node == path.leaf]
        size = math.prod(len(values) for values in axes)
        leaves = math.prod(len({canonical(identity(value)) for value in values}) for values in axes)
        *above, leaf = plan.steps(plan.candidate(start))
        yield Family(range(start, start + size), leaves, tuple(above), leaf)
        start += size


def _sampled_families(plan: Plan) -> Iterator[Family]:
    """Candidates that are listed one by one, put together by what is above their leaves."""
    grouped: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    first: dict[tuple[str, tuple[str, ...]], tuple[Step, ...]] = {}
    digests: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    for candidate in plan:
        steps = plan.steps(candidate)
        key = (steps[-1].node, tuple(step.digest for step in steps[:-1]))
        grouped.setdefault(key, []).append(candidate.index)
        first.setdefault(key, steps)
        digests.setdefault(key, set()).add(steps[-1].digest)
    for key, candidates in grouped.items():
        *above, leaf = first[key]
        yield Family(candidates, len(digests[key]), tuple(above), leaf)


def lone_family(plan: Plan, candidate: int) -> Family:
    """One candidate by itself, for its refit."""
    *above, leaf = plan.steps(plan.candidate(candidate))
    return Family((candidate,), 1, tuple(above), leaf)


def grow(families: Iterable[Family]) -> Forest:
    """Who feeds whom in these families; a step that several share stands once, a run without branches is one unit."""
    listed = tuple(families)
    steps: dict[str, tuple[Step, int]] = {}
    readers: dict[str, list[str]] = {}
    leaves: dict[str, list[int]] = {}
    for number, family in enumerate(listed):
        for step in family.above:
            if step.digest not in steps:
                steps[step.digest] = (step, number)
                for source in set(step.inputs):
                    readers.setdefault(source, []).append(step.digest)
        for source in set(family.leaf.inputs):
            leaves.setdefault(source, []).append(number)
    return Forest(listed, _units(steps, readers, leaves))


def _units(
    steps: dict[str, tuple[Step, int]], readers: dict[str, list[str]], leaves: dict[str, list[int]]
) -> dict[str, Unit]:
    unit_of: dict[str, Unit] = {}
    made: list[Unit] = []
    for digest, (step, first) in steps.items():
        source = step.inputs[0] if len(step.inputs) == 1 else None
        if source is not None and len(readers[source]) == 1 and source not in leaves:
            unit = unit_of[source]
            unit.steps.append(step)
        else:
            unit = Unit([step], first, len(made))
            made.append(unit)
        unit_of[digest] = unit
    for unit in made:
        unit.units = list(dict.fromkeys(unit_of[reader].digest for reader in readers.get(unit.digest, ())))
        unit.families = leaves.get(unit.digest, [])
    return {unit.digest: unit for unit in made}
