"""Shows a job while it runs: a live table and a bar on a terminal, plain lines without one."""

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from flaregate.cli import words
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.events import (
    AttemptEvent,
    ConditionEvent,
    EndEvent,
    Event,
    MetricsEvent,
    OutcomeEvent,
    ProgressEvent,
    StateEvent,
)

ROWS = 20
Rank = Callable[[OutcomeEvent], tuple[bool, float, int]]
"""Sorts the best first and those without a number last; its first part says that there is none."""


class View(Protocol):
    """What shows events."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(self, event: Event) -> None:
        """Take one event in."""
        ...


class Lines:
    """One line an event, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._best: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, event: Event) -> None:
        """Print what a reader of a log wants to know; progress is in the outcomes."""
        match event:
            case StateEvent():
                self._say(event, f"{event.state}{f' ({event.reason})' if event.reason else ''}")
            case ConditionEvent():
                self._say(event, f"{event.name}: {'since now' if event.active else 'over'} {event.message or ''}")
            case AttemptEvent():
                self._attempt(event)
            case OutcomeEvent():
                self._say(event, f"candidate {event.candidate}: {words.path(event)}  {_line(event)}")
            case MetricsEvent():
                figures = "  ".join(f"{name} {words.value(given)}" for name, given in event.values.items())
                self._say(event, f"candidate {event.candidate}, step {event.step}: {figures}")
            case EndEvent(message=str() as message):
                self._say(event, message)
            case _:
                pass

    def _attempt(self, event: AttemptEvent) -> None:
        match event:
            case AttemptEvent(phase="ray_ready" | "joined"):
                self._say(event, f"{event.phase.replace('_', ' ')} ({'head' if event.index == 0 else 'worker'})")
            case AttemptEvent(phase="lost"):
                story = event.detail.get("story")
                self._say(event, f"worker {event.index} is lost{f': {story}' if story else ''}")
            case AttemptEvent(phase="launched") if event.index:
                pause = event.detail.get("pause")
                when = f", after a pause of {pause:.0f} s" if isinstance(pause, int | float) else ""
                self._say(event, f"worker {event.index} is launched for worker {event.detail.get('replaces')}{when}")
            case _:
                pass

    def _say(self, event: Event, text: str) -> None:
        self._console.print(f"{event.time:%H:%M:%S} {text}", markup=False, highlight=False, soft_wrap=True)


class Screen:
    """A table of outcomes, best first, that grows as they arrive, above a bar."""

    def __init__(self, console: Console, total: int | None, rank: Rank) -> None:
        self._outcomes: list[OutcomeEvent] = []
        self._total = total
        self._rank = rank
        self._state = "queued"
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("tasks"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[eta]}"),
            console=console,
        )
        self._task: TaskID = self._bar.add_task("queued", total=None, eta="")
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=8)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, event: Event) -> None:
        """Take one event in; the screen is drawn at its own pace."""
        match event:
            case StateEvent():
                self._state = str(event.state)
            case AttemptEvent(phase="ray_ready"):
                self._state = "running, Ray is ready"
            case OutcomeEvent():
                self._outcomes.append(event)
                self._outcomes.sort(key=self._rank)
            case ProgressEvent():
                eta = f"{words.duration(event.eta)} left" if event.eta else ""
                self._bar.update(self._task, completed=event.done, total=event.total, eta=eta)
            case _:
                pass
        self._bar.update(self._task, description=self._state)

    def _render(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("#", "path", "axes", "gave", "fit s"):
            table.add_column(title, justify="right" if title in ("#", "fit s") else "left", overflow="fold")
        for outcome in self._outcomes[:ROWS]:
            table.add_row(*_cells(outcome))
        more = len(self._outcomes) - ROWS
        tail = Text(f"… and {more} more" if more > 0 else "", style="dim")
        of = "" if self._total is None else f" of {self._total}"
        head = Text(f"{len(self._outcomes)}{of} outcomes", style="dim")
        return Group(table, tail, head, self._bar) if self._outcomes else Group(self._bar)


def ranking(definition: JobDefinition) -> Rank:
    """How a job's outcomes are ranked: by the metric that a sweep names, else by mean."""
    direction, _, metric = (definition.best or "max:").partition(":")
    sign = -1.0 if direction == "max" else 1.0

    def rank(outcome: OutcomeEvent) -> tuple[bool, float, int]:
        given = (outcome.metrics or {}).get(metric) if metric else outcome.mean
        known = isinstance(given, float | int)
        return (not known, sign * float(given) if isinstance(given, float | int) else 0.0, outcome.candidate)

    return rank


def _cells(outcome: OutcomeEvent) -> Iterable[str | Text]:
    yield str(outcome.candidate)
    yield words.path(outcome)
    yield words.settings(outcome)
    yield Text(words.error(outcome), style="red") if outcome.error else words.gave(outcome)
    yield words.number(outcome.times.get("fit"), 2)


def _line(outcome: OutcomeEvent) -> str:
    return "  ".join(filter(None, (words.settings(outcome), words.gave(outcome), words.error(outcome))))


def view(console: Console, total: int | None, rank: Rank) -> View:
    """The view that fits where the output goes; `total` outcomes are expected, as far as that is known."""
    return Screen(console, total, rank) if console.is_terminal else Lines(console)
