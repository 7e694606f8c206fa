"""The outcomes of a job as a table on a terminal: candidates of a search, cells of a sweep, blocks of a map."""

from collections.abc import Callable, Iterable, Sequence

from rich.table import Table
from rich.text import Text

from flaregate.cli import words
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.events import OutcomeEvent
from flaregate_wire.jobs import GarbageReport

Cell = Callable[[OutcomeEvent], str | Text]


def table(outcomes: Sequence[OutcomeEvent], definition: JobDefinition | None) -> Table:
    """One row an outcome in candidate order; a column for each thing that any of them has."""
    columns = [*_what(outcomes, definition), *_gave(outcomes)]
    made = Table(box=None, pad_edge=False, header_style="bold")
    for title, justified, _ in columns:
        made.add_column(title, justify="right" if justified else "left", overflow="fold")
    for outcome in sorted(outcomes, key=lambda one: (one.iteration or 0, one.candidate, one.object or "")):
        made.add_row(*(cell(outcome) for _, _, cell in columns))
    return made


def garbage(report: GarbageReport) -> Table:
    """What was removed, or would be: how many of each kind, their bytes, some names."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("would be removed" if report.dry_run else "removed", "how many", "bytes"):
        made.add_column(title, justify="left" if title.endswith("removed") else "right")
    made.add_column("such as", overflow="fold")
    for found in report.found:
        names = [*found.examples, *(["…"] if found.count > len(found.examples) else [])]
        made.add_row(found.kind, str(found.count), words.size(found.size), Text("\n".join(names)))
    if not report.whole:
        made.caption = "and more: ask again"
    return made


def _what(outcomes: Sequence[OutcomeEvent], definition: JobDefinition | None) -> Iterable[tuple[str, bool, Cell]]:
    """Which candidate, cell or block it is."""
    yield "#", True, lambda one: str(one.candidate)
    if any(one.iteration is not None for one in outcomes):
        yield "round", True, lambda one: str(one.iteration)
        yield "resources", True, lambda one: str(one.resources)
    if any(one.object is not None for one in outcomes):
        yield "object", False, lambda one: one.object or ""
    if len({one.path for one in outcomes}) > 1:
        yield "path", False, words.path
    named = {(axis.node, axis.param): axis.key for axis in definition.axes} if definition else {}
    for node, param in dict.fromkeys((node, param) for one in outcomes for node, param, _ in one.axes):
        yield named.get((node, param)) or f"{node}.{param}", False, _axis(node, param)


def _axis(node: str, param: str) -> Cell:
    return lambda one: next((words.value(value) for of, name, value in one.axes if (of, name) == (node, param)), "")


def _gave(outcomes: Sequence[OutcomeEvent]) -> Iterable[tuple[str, bool, Cell]]:
    """What it gave."""
    if any(one.mean is not None for one in outcomes):
        yield "mean", True, lambda one: words.number(one.mean)
        yield "± std", True, lambda one: words.number(one.std)
    for name in dict.fromkeys(name for one in outcomes for name in one.metrics or ()):
        yield name, True, _metric(name)
    if any(one.output is not None or one.artifact is not None for one in outcomes):
        yield "gave", False, words.output
    if any(one.error is not None for one in outcomes):
        yield "error", False, lambda one: Text(words.error(one), style="red")


def _metric(name: str) -> Cell:
    return lambda one: words.value((one.metrics or {}).get(name, ""))
