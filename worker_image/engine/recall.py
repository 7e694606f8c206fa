"""What the cache knows of a run, and what it is told: the one module between the engine and the cache.

A leaf's report is kept as if the candidate had run alone: with the times and warnings of the steps above it, which are
not there when it comes from the cache. What a step passes on is kept where computing it, with what is above it, took
longer than fetching it will, with the reports of all steps behind it, for the times and warnings of what reads it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from flaregate.versions import here
from flaregate_wire.definitions import FITS, Action
from flaregate_wire.digests import digest
from flaregate_wire.events import WarningDetail
from flaregate_wire.planning import Plan, Step, naming
from flaregate_wire.planning.blocks import Span, block_digest, span_of
from flaregate_wire.planning.families import Family, Forest, Unit
from worker_image.cache import Cache, Entry
from worker_image.engine.prepare import Summary
from worker_image.engine.runner import SaveFailed, StatesLost
from worker_image.engine.schedule import Load
from worker_image.engine.tasks import ALL_ROWS, Cut, Key, Report, Task

WORTH_SECONDS = 0.5
"""What takes less to compute, on all folds together, is computed again."""
BYTES_A_SECOND = 400e6
"""Of fetching. Storing goes on beside the work."""
_AT_ONCE = 4
_STEPS = "steps"
_SCORES = ("scores", "train_scores")


@dataclass(slots=True)
class Recall:
    """The cache, seen by one run of one job."""

    plan: Plan
    summary: Summary
    cache: Cache
    job: str
    scratch: Path
    files: dict[Key, Path] = field(default_factory=dict)
    """Of known leaves that left a file."""
    _leaves: dict[tuple[str, Cut], dict[str, Report]] = field(default_factory=dict)
    """By (first leaf of a family, cut)."""
    _stored: dict[Key, Entry] = field(default_factory=dict)
    _cost: dict[Key, float] = field(default_factory=dict)
    _above: dict[Key, dict[str, Report]] = field(default_factory=dict)
    """Of a result: the reports of the steps that made it, by digest."""
    _endings: dict[tuple[Cut, str], str] = field(default_factory=dict)
    _rows: tuple[naming.RowNames, ...] = ()
    _purpose: str = ""
    _shelves: naming.Shelves = field(init=False)

    def __post_init__(self) -> None:
        definition = self.plan.definition
        self._purpose = naming.purpose(definition)
        self._rows = tuple(source.names for source in self.summary.sources if source.names is not None)
        drawing = frozenset() if definition.unseeded else self.summary.drawing
        self._shelves = naming.Shelves(self.plan, self._rows, naming.uncached(definition) | drawing, self.job)

    # What is known

    def look_up(self, forest: Forest, cuts: Iterable[Cut]) -> None:
        """Ask for everything that a run of this forest could use."""
        for step in (step for unit in forest.above.values() for step in unit.steps):
            self._shelves.learn(step)
        wanted = self._wanted(forest, cuts)
        if not wanted:
            return
        folds = self._folds()
        found = self.cache.lookup([*wanted, *folds])
        for shelf, places in wanted.items():
            for what, cut in places:
                self._know(what, cut, found.get(shelf, {}))
        for shelf in folds.keys() - found.keys():
            self.cache.keep(shelf, naming.FOLDS, {naming.FOLDS: list(folds[shelf])})
        self._fetch_files()

    def _wanted(self, forest: Forest, cuts: Iterable[Cut]) -> dict[str, list[tuple[Family | Unit, Cut]]]:
        """By shelf: what may be there."""
        wanted: dict[str, list[tuple[Family | Unit, Cut]]] = {}
        for cut in filter(self._findable, cuts):
            for family in forest.families:
                wanted.setdefault(self._shelves.leaf(family.leaf, cut.source), []).append((family, cut))
            for unit in forest.above.values():
                wanted.setdefault(self._shelves.step(unit.steps[-1], cut.source), []).append((unit, cut))
        return wanted

    def _folds(self) -> dict[str, tuple[str, ...]]:
        """By shelf: the digests of folds, for plans."""
        definition, version = self.plan.definition, here().get("scikit-learn", "")
        found = {naming.folds_shelf(definition, number, version): rows.folds for number, rows in enumerate(self._rows)}
        return {shelf: folds for shelf, folds in found.items() if shelf is not None}

    def _know(self, what: Family | Unit, cut: Cut, entries: Mapping[str, Entry]) -> None:
        if isinstance(what, Family):
            self._know_leaves(what, cut, entries)
        elif (entry := entries.get(self._key(what.steps[-1], cut, ""))) is not None:
            self._stored[what.digest, cut] = entry

    def _know_leaves(self, family: Family, cut: Cut, entries: Mapping[str, Entry]) -> None:
        ending = self._ending(cut, self._purpose)
        known = {}
        for key, entry in entries.items():
            leaf, _, rest = key.partition("/")
            if rest == ending and (report := _decoded(entry.report)) is not None:
                known[leaf] = report
                if entry.blob is not None:
                    self._stored[leaf, cut] = entry
        if known:
            self._leaves[family.leaf.digest, cut] = known

    def _fetch_files(self) -> None:
        """Get the files of known leaves; a leaf whose file is gone is not known."""
        wanted = [
            (known, leaf, cut)
            for (_, cut), known in self._leaves.items()
            for leaf, report in known.items()
            if report.held
        ]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            paths = list(pool.map(lambda item: self._fetched((item[1], item[2])), wanted))
        for (known, leaf, cut), path in zip(wanted, paths, strict=True):
            if path is None:
                del known[leaf]
            else:
                self.files[leaf, cut] = path

    def _fetched(self, key: Key) -> Path | None:
        entry = self._stored.get(key)
        if entry is None:
            return None
        path = self.scratch / f"cached-{digest([key[0], list(key[1])])[7:39]}"
        return path if path.exists() or self.cache.fetch(entry, path) else None

    def leaves(self, family: Family, cut: Cut) -> Mapping[str, Report]:
        """The reports of this family's leaves that are known on this cut, by digest."""
        return self._leaves.get((family.leaf.digest, cut), {})

    def stored(self, unit: Unit, cut: Cut) -> bool:
        """Whether what this unit makes of this cut can be loaded."""
        return (unit.digest, cut) in self._stored

    def load(self, load: Load) -> Path | None:
        """The file of a stored result; None where it is gone or not what it should be."""
        return self._fetched(load.key)

    def pipeline(self, leaf: Step, cut: Cut) -> tuple[Report, Path] | None:
        """The report and the file of a pipeline that was fitted on all rows before."""
        if not self._findable(cut):
            return None
        shelf = self._shelves.leaf(leaf, cut.source)
        entry = self.cache.lookup([shelf]).get(shelf, {}).get(self._key(leaf, cut, Action.FIT.value))
        report = None if entry is None or entry.blob is None else _decoded(entry.report)
        if entry is None or report is None:
            return None
        self._stored[leaf.digest, cut] = entry
        path = self._fetched((leaf.digest, cut))
        return None if path is None else (report, path)

    @staticmethod
    def block(leaf: Step, span: Span) -> Step:
        """A map's leaf on some of the rows."""
        return replace(leaf, digest=block_digest(leaf.digest, span))

    def blocks(self, leaf: Step, cut: Cut) -> dict[Span, Report]:
        """The blocks of a map that are known, by their rows."""
        if not self._findable(cut):
            return {}
        shelf = self._shelves.leaf(leaf, cut.source)
        known: dict[str, Report] = {}
        spans: dict[str, Span] = {}
        for key, entry in self.cache.lookup([shelf]).get(shelf, {}).items():
            name, _, rest = key.partition("/")
            report, span = _decoded(entry.report), span_of(leaf.digest, name)
            if span is not None and rest == self._ending(cut, self._purpose) and report is not None:
                known[name], spans[name] = report, span
                self._stored[name, cut] = entry
        self._leaves["", cut] = known
        self._fetch_files()
        return {spans[name]: report for name, report in known.items()}

    # What is kept

    def keep_leaf(self, leaf: Step, cut: Cut, report: Report, file: Path | None = None) -> None:
        """Keep what a leaf gave; `report` has the times and warnings of the steps above it too."""
        if report.error is None and not report.cached and self._findable(cut):
            fits = cut.fold == ALL_ROWS and self.plan.definition.action in FITS
            purpose = Action.FIT.value if fits else self._purpose
            self.cache.keep(self._shelves.leaf(leaf, cut.source), self._key(leaf, cut, purpose), _encoded(report), file)

    def reports(self, load: Load) -> dict[str, Report]:
        """By digest: how a stored result came about, with all that is above it."""
        entry = self._stored.get(load.key)
        told: Any = {} if entry is None else entry.report.get(_STEPS, {})
        found = {digest: _decoded(one) for digest, one in told.items()} if isinstance(told, dict) else {}
        self._above[load.key] = {digest: report for digest, report in found.items() if report is not None}
        return self._above[load.key]

    def made(self, task: Task, reports: Sequence[Report], seconds: float, export: Callable[[Key, Path], int]) -> None:
        """A unit was computed: keep what it passes on where that is worth it."""
        key, steps = task.key, task.steps
        sources = {(source, key[1]) for source in steps[0].inputs}
        above = {digest: report for source in sources for digest, report in self._above.get(source, {}).items()}
        self._above[key] = above | dict(zip(task.digests, reports, strict=True))
        cost = seconds + sum(self._cost.get(source, 0.0) for source in sources)
        self._cost[key] = cost
        folds = max(1, self.summary.sources[key[1].source].folds)
        if cost * folds < WORTH_SECONDS or self.plan.definition.cache != "on" or not self._findable(key[1]):
            return
        path = self.scratch / f"kept-{digest([key[0], list(key[1])])[7:39]}"
        try:
            size = export(key, path)
        except (SaveFailed, StatesLost):  # then another run computes it
            return
        if size / BYTES_A_SECOND > cost:
            path.unlink()
            return
        self._cost[key] = 0.0
        step = steps[-1]
        told: dict[str, JsonValue] = {digest: _encoded(report) for digest, report in self._above[key].items()}
        self.cache.keep(self._shelves.step(step, key[1].source), self._key(step, key[1], ""), {_STEPS: told}, path)
        path.unlink()

    # Names

    def _findable(self, cut: Cut) -> bool:
        """Whether another run would cut the same rows."""
        halving = self.plan.definition.halving
        drawn = bool(cut.resources) and halving is not None and halving.random_state is None
        return not drawn and self.plan.definition.cache != "off" and bool(self._rows)

    def _key(self, step: Step, cut: Cut, purpose: str) -> str:
        return naming.key(step.digest, self._ending(cut, purpose))

    def _ending(self, cut: Cut, purpose: str) -> str:
        if (cut, purpose) not in self._endings:
            self._endings[cut, purpose] = self._new_ending(cut, purpose)
        return self._endings[cut, purpose]

    def _new_ending(self, cut: Cut, purpose: str) -> str:
        fold = naming.ALL if cut.fold == ALL_ROWS else self._rows[cut.source].folds[cut.fold]
        halving = self.plan.definition.halving
        drawn = f"{cut.resources}-{halving.random_state}" if halving is not None and cut.resources else ""
        return naming.ending(fold, purpose, drawn)


def _encoded(report: Report) -> dict[str, JsonValue]:
    """A report as JSON; what is not said is left out."""
    found: dict[str, Any] = {}
    for item in fields(Report):
        value = getattr(report, item.name)
        if value != item.default and item.name not in ("notes", "error", "cached"):
            found[item.name] = value
    for name in _SCORES:
        if name in found:
            found[name] = {scorer: _typed(value) for scorer, value in found[name].items()}
    if "warnings" in found:
        found["warnings"] = [warning.model_dump() for warning in report.warnings]
    return found


def _decoded(found: Mapping[str, Any]) -> Report | None:
    """The report; None for what is none."""
    try:
        given = {**found, "warnings": tuple(WarningDetail.model_validate(one) for one in found.get("warnings", ()))}
        for name in _SCORES:
            if given.get(name) is not None:
                given[name] = {scorer: float(value) for scorer, value in given[name].items()}
        return replace(Report(**given), cached=True)
    except (TypeError, ValueError, AttributeError):
        return None


def _typed(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
