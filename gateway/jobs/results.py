"""The outcomes of a job that has ended as a table: one row an outcome, or a group of them. In constant memory.

They are put into candidate order in a database of this request's own, which SQLite keeps in memory while it is small,
and in a temporary file without a name where it is not. Of what two attempts ran, the last stands there.
"""

import asyncio
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from flaregate_wire.definitions import JobDefinition
from flaregate_wire.planning.checks import suggestion
from flaregate_wire.problems import Fault
from gateway.jobs.archive import EventLog
from gateway.jobs.batches import Batch
from gateway.jobs.columns import Column, Kind, Outcome, Row, Shape, Spread, Type, axis_names, cell, numbers, plain
from gateway.jobs.errors import InvalidRequest, JobNotDone
from gateway.jobs.records import JobRecord
from gateway.jobs.repository import SqlRepository

PAGE = 500
"""Rows at once."""
AT_ONCE = 2
"""Tables that are being made: each takes a thread."""


class Results:
    """One gateway's tables."""

    def __init__(self, repository: SqlRepository, log: EventLog) -> None:
        self._repository = repository
        self._log = log
        self._places = asyncio.Semaphore(AT_ONCE)

    async def table(self, job: JobRecord, by: Sequence[str]) -> "Table":
        """One row an outcome, or a group with equal values on the axes of `by`. Raises JobNotDone, InvalidRequest."""
        if not job.state.terminal:
            raise JobNotDone(f"a table is of a job that has ended, and {job.id} is {job.state}; its lines come already")
        definition = JobDefinition.model_validate_json(await self._repository.definition(job.id))
        axes = check_axes(definition, by)
        async with self._places:
            gathered = await asyncio.to_thread(Gathered, definition)
            async for batch in self._log.read(job.id, 0):
                await asyncio.to_thread(gathered.add, batch)
            if axes:
                return await asyncio.to_thread(gathered.grouped, axes)
            return await asyncio.to_thread(gathered.flat)


class Table(Protocol):
    """Columns and rows; rows are read once, by a thread that may wait."""

    @property
    def columns(self) -> tuple[Column, ...]: ...
    def rows(self) -> Iterator[Row]: ...


class Gathered:
    """The outcomes of one job in order. Everything here blocks: it is called in threads, one after the other."""

    def __init__(self, definition: JobDefinition) -> None:
        self._definition = definition
        self._objects = {one.name: place for place, one in enumerate(definition.objects)}
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._database.execute(
            "CREATE TABLE outcomes (round INTEGER, candidate INTEGER, object INTEGER, line BLOB, "
            "PRIMARY KEY (round, candidate, object)) WITHOUT ROWID"
        )

    def add(self, batch: Batch) -> None:
        """Some more, in the order in which they came."""
        rows = [self._keyed(line) for line in batch.outcomes.splitlines()]
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?, ?)", rows)
        self._database.execute("COMMIT")

    def _keyed(self, line: bytes) -> tuple[int, int, int, bytes]:
        outcome = json.loads(line)
        place = self._objects.get(outcome.get("object"), 0)
        return outcome.get("iteration") or 0, outcome["candidate"], place, line

    def outcomes(self) -> Iterator[Outcome]:
        """All of them, in candidate order."""
        cursor = self._database.execute("SELECT line FROM outcomes ORDER BY round, candidate, object")
        while page := cursor.fetchmany(PAGE):
            for (line,) in page:
                yield json.loads(line)

    def flat(self) -> "Flat":
        """One row an outcome."""
        shape = Shape(self._definition)
        for outcome in self.outcomes():
            shape.add(outcome)
        return Flat(shape, shape.types(), self)

    def grouped(self, by: Sequence[str]) -> "Grouped":
        """One row a group of outcomes with equal values on these axes, in the order of their first."""
        groups = Grouped(self._definition, tuple(by))
        for outcome in self.outcomes():
            groups.add(outcome)
        return groups


@dataclass(frozen=True, slots=True)
class Flat:
    """One row an outcome."""

    shape: Shape
    types: dict[str, Type]
    gathered: Gathered

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple(Column(name, kind) for name, kind in self.types.items())

    def rows(self) -> Iterator[Row]:
        return (self.shape.row(outcome, self.types) for outcome in self.gathered.outcomes())


@dataclass(slots=True)
class _Group:
    values: tuple[Any, ...]
    measured: dict[str, Spread] = field(default_factory=dict)
    whole: int = 0
    failed: int = 0
    best: tuple[float, int] | None = None


@dataclass(slots=True)
class Grouped:
    """Mean and standard deviation of what was measured, by group."""

    definition: JobDefinition
    by: tuple[str, ...]
    _groups: dict[str, _Group] = field(default_factory=dict)
    _kinds: dict[str, Kind] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """One more."""
        names = axis_names(self.definition)
        given: dict[str, Any] = {}
        for node, param, value in outcome.get("axes", ()):
            given |= dict.fromkeys((f"{node}__{param}", names.get((node, param), "")), plain(value))
        values = tuple(given.get(name) for name in self.by)
        for name, value in zip(self.by, values, strict=True):
            self._kinds.setdefault(name, Kind()).add(value)
        group = self._groups.setdefault(json.dumps(values, sort_keys=True), _Group(values))
        if outcome.get("error"):
            group.failed += 1
            return
        group.whole += 1
        measured = numbers(outcome)
        for name, number in measured.items():
            group.measured.setdefault(name, Spread()).add(number)
        self._rank(group, measured, outcome["candidate"])

    def _rank(self, group: _Group, measured: dict[str, float], candidate: int) -> None:
        direction, _, metric = (self.definition.best or "").partition(":")
        number = measured.get(metric)
        if number is None or number != number:  # noqa: PLR0124 - it is no number
            return
        score = number if direction == "max" else -number
        if group.best is None or score > group.best[0]:
            group.best = (score, candidate)

    @property
    def columns(self) -> tuple[Column, ...]:
        measured = dict.fromkeys(name for group in self._groups.values() for name in group.measured)
        return (
            *(Column(name, self._kinds[name].type or "text" if name in self._kinds else "text") for name in self.by),
            *(Column(f"{name}_{what}", "float") for name in measured for what in ("mean", "std")),
            Column("n", "int"),
            Column("failed", "int"),
            *((Column("best", "int"),) if self.definition.best else ()),
        )

    def rows(self) -> Iterator[Row]:
        for group in self._groups.values():
            row: Row = {
                name: cell(value, self._kinds[name].type or "text")
                for name, value in zip(self.by, group.values, strict=True)
            }
            for name, spread in group.measured.items():
                row |= {f"{name}_mean": spread.mean, f"{name}_std": spread.std}
            row |= {"n": group.whole, "failed": group.failed}
            yield row | ({"best": group.best and group.best[1]} if self.definition.best else {})


def check_axes(definition: JobDefinition, asked: Iterable[str]) -> tuple[str, ...]:
    """The axes that a request names, each once. Raises InvalidRequest for what is none."""
    names = axis_names(definition)
    known = dict.fromkeys([*names.values(), *("__".join(place) for place in names)])
    whole = (part for item in asked for part in ([item] if item in known else item.split(",")))
    found = tuple(dict.fromkeys(part.strip() for part in whole))
    for name in found:
        if name not in known:
            message = f"group_by names {name!r}, which is no axis{suggestion(name, known)}"
            raise InvalidRequest(message, (Fault(pointer="group_by", rule="axis", message=message),))
    return found
