"""How much of a plan is in the cache: looks for what a run would look for, and counts what it would not compute."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import JsonValue

from flaregate_wire.attempts import CacheLine
from flaregate_wire.definitions import FOLDED, Action, Blob, Code, JobDefinition
from flaregate_wire.planning import naming, plan
from flaregate_wire.planning.blocks import repeated, span_of
from flaregate_wire.planning.families import Forest, Unit, every_family, grow
from flaregate_wire.planning.folds import splitter_name
from gateway.jobs.cache_index import CacheIndex, Scope
from gateway.jobs.segments import Entries, Reading, TooMuch
from gateway.stores.base import Store

LEAVES = 50_000
"""Candidates × folds at most; of more a plan says that they are too many."""
_NOBODY = "nobody"
"""Owns the shelves that a plan cannot see: those of what is not shared between jobs."""


class _Unknown(Exception):
    """It cannot be told; the message says why."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a plan can say of the cache."""

    tasks: int | None
    why: str | None = None
    """Why that is not known."""


class CachedTasks:
    """Counts for one plan at a time, so that several together take no more memory than one."""

    def __init__(self, index: CacheIndex, store: Store, clock: Callable[[], datetime]) -> None:
        self._index = index
        self._store = store
        self._now = clock
        self._turn = asyncio.Lock()

    async def count(self, scope: Scope, definition: JobDefinition, scikit_learn: str) -> Known:
        """Tasks of a run that would not be computed, as far as the cache knows their names now; of a map its blocks.

        That is not known where only the job can tell, or where it is too much to look through. A node whose new value
        draws random numbers, where no earlier value did, is counted as if none did.

        Args:
            scope: Where to look.
            definition: The job; its artifacts are resolved to blobs.
            scikit_learn: The version in the containers.
        """
        if definition.cache == "off":
            return Known(0)
        async with self._turn:
            try:
                return Known(await self._count(scope, definition, scikit_learn))
            except _Unknown as reason:
                return Known(None, str(reason))
            except TooMuch:
                return Known(None, "it is too much to look through")

    async def _count(self, scope: Scope, definition: JobDefinition, version: str) -> int:
        sources = range(1 if definition.action is Action.MAP else max(1, len(definition.objects)))
        _check_knowable(definition, sources, version)
        known = [naming.known_contents(definition, source, version) for source in sources]
        shelves = _folds_shelves(definition, sources, version)
        reading = Reading(self._index, self._store, scope, self._now())
        found = await reading.entries(shelves)
        folds = [_folds(found.get(shelf, {})) for shelf in shelves] or [(naming.ALL,)] * len(sources)
        rows = [naming.row_names(one or {}, version, names) for one, names in zip(known, folds, strict=True)]
        sought = await asyncio.to_thread(_sought, definition, rows)
        entries = await reading.entries(sought.shelves)
        gone = await reading.gone(entries)
        count = sought.blocks if definition.action is Action.MAP else sought.count
        return await asyncio.to_thread(count, entries, gone)


def _check_knowable(definition: JobDefinition, sources: Iterable[int], version: str) -> None:
    """Raise _Unknown where only the job can tell what its rows and folds are."""
    if definition.halving is not None:
        raise _Unknown("halving chooses its candidates as it goes")
    for source in sources:
        for name, given in naming.inputs_of(definition, source).items():
            if naming.known_content(given, version) is None:
                raise _Unknown(f"only the job can tell what {name} holds")
    if definition.action in FOLDED and naming.folds_shelf(definition, 0, version) is None:
        raise _Unknown(_folds_unknown(definition))


def _folds_unknown(definition: JobDefinition) -> str:
    if not isinstance(definition.cv, Code):
        return "how the rows are cut depends on a last node that only the job can look at"
    if splitter_name(definition) is not None:
        return "its splitter draws without a seed"
    return "its splitter is called by the job"


def _folds_shelves(definition: JobDefinition, sources: Iterable[int], version: str) -> list[str]:
    """Where the digests of each source's folds are; nowhere if all rows train."""
    if definition.action not in FOLDED:
        return []
    found = [naming.folds_shelf(definition, source, version) for source in sources]
    return [shelf for shelf in found if shelf is not None]


def _folds(entries: Mapping[str, CacheLine]) -> tuple[str, ...]:
    """The digests of a source's folds; none where no run has made them."""
    line = entries.get(naming.FOLDS)
    found: JsonValue = None if line is None else line.report.get(naming.FOLDS)
    return tuple(str(one) for one in found) if isinstance(found, list) else ()


def _sought(definition: JobDefinition, rows: Sequence[naming.RowNames]) -> "_Sought":
    """In a thread: a definition may be small and its plan large. Raises _Unknown."""
    made = plan(definition)
    if len(made) * sum(len(one.folds) for one in rows) > LEAVES:
        raise _Unknown(f"there are more than {LEAVES} candidates × folds")
    forest = grow(every_family(made))
    shelves = naming.Shelves(made, rows, naming.uncached(definition), _NOBODY)
    for unit in forest.above.values():
        for step in unit.steps:
            shelves.learn(step)
    return _Sought(shelves, forest)


@dataclass(slots=True)
class _Sought:
    """What a run would look for, and how much of it is there."""

    names: naming.Shelves
    forest: Forest
    _digests: dict[int, list[str]] = field(default_factory=dict)
    """Of the leaves of a family, by its number."""

    @property
    def shelves(self) -> list[str]:
        """All that it would look at."""
        found: dict[str, None] = {}
        for source, rows in enumerate(self.names.sources):
            if rows.folds:
                found |= dict.fromkeys(self.names.leaf(family.leaf, source) for family in self.forest.families)
                found |= dict.fromkeys(self.names.step(unit.steps[-1], source) for unit in self.forest.above.values())
        return list(found)

    def count(self, entries: Entries, gone: frozenset[str]) -> int:
        """The tasks on all folds of all sources that would not be computed."""
        there = _there(entries, gone)
        return sum(
            self.forest.tasks - self._computed(source, fold, there)
            for source, rows in enumerate(self.names.sources)
            for fold in rows.folds
        )

    def blocks(self, entries: Entries, gone: frozenset[str]) -> int:
        """The blocks of a map that would not be computed. Raises _Unknown."""
        (family,), definition = self.forest.families, self.names.plan.definition
        keys = _there(entries, gone).get(self.names.leaf(family.leaf, 0), frozenset())
        end = naming.ending(naming.ALL, naming.purpose(definition))
        named = (name for name, _, rest in (key.partition("/") for key in keys) if rest == end)
        spans = {span for name in named if (span := span_of(family.leaf.digest, name)) is not None}
        if not spans:
            return 0
        given = naming.inputs_of(definition, 0)["X"]
        if not isinstance(given, Blob) or not given.shape:
            raise _Unknown("only the job can tell how many rows X has")
        found = repeated(spans, given.shape[0], definition.blocks)
        if found is None:
            raise _Unknown("blocks adapt their size, and only some rows are known")
        return found

    def _computed(self, source: int, fold: str, there: Mapping[str, frozenset[str]]) -> int:
        """Leaves that are not known, and the steps that they need until one whose result can be loaded."""
        leaves, needed = 0, dict[str, None]()
        for number, family in enumerate(self.forest.families):
            missing = self._missing(number, source, fold, there)
            if missing:
                leaves += missing
                needed |= dict.fromkeys(family.leaf.inputs)
        steps, waiting = 0, list(needed)
        while waiting:
            unit = self.forest.above[waiting.pop()]
            if not self._stored(unit, source, fold, there):
                steps += len(unit.steps)
                new = [digest for digest in dict.fromkeys(unit.inputs) if digest not in needed]
                needed |= dict.fromkeys(new)
                waiting += new
        return leaves + steps

    def _missing(self, number: int, source: int, fold: str, there: Mapping[str, frozenset[str]]) -> int:
        family, made = self.forest.families[number], self.names.plan
        keys = there.get(self.names.leaf(family.leaf, source))
        if not keys:
            return family.leaves
        if number not in self._digests:
            self._digests[number] = [member.step.digest for member in family.members(made)]
        end = naming.ending(fold, naming.purpose(made.definition))
        return sum(naming.key(digest, end) not in keys for digest in self._digests[number])

    def _stored(self, unit: Unit, source: int, fold: str, there: Mapping[str, frozenset[str]]) -> bool:
        """Whether what it passes on can be loaded; that is of no use to a fitted pipeline, which needs its steps."""
        if self.names.plan.definition.action is Action.FIT:
            return False
        keys = there.get(self.names.step(unit.steps[-1], source), frozenset())
        return naming.key(unit.digest, naming.ending(fold, "")) in keys


def _there(entries: Entries, gone: frozenset[str]) -> dict[str, frozenset[str]]:
    """The keys on each shelf of what can be read."""
    return {
        shelf: frozenset(key for key, line in lines.items() if line.blob is None or line.blob.key not in gone)
        for shelf, lines in entries.items()
    }
