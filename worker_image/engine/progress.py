"""How far a run is, said a few times a second at most, and only when it has come further."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic

from flaregate_wire.events import NodeEvent, ProgressEvent, Reported

INTERVAL = 0.2
"""Seconds between two of them."""


@dataclass(slots=True)
class Progress:
    """Counts what has ended, and reports it at intervals."""

    report: Callable[[Reported], None]
    now: Callable[[], datetime]
    attempt: int
    total: int
    clock: Callable[[], float] = monotonic
    done: int = 0
    cached: int = 0
    failed: int = 0
    fits: Counter[str] = field(default_factory=Counter)
    refits: Counter[str] = field(default_factory=Counter)
    inner_fits: Counter[str] = field(default_factory=Counter)
    _started: float = 0.0
    _said: float = 0.0
    _counts: tuple[int, int, int, int] | None = None
    _told: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._started = self.clock()

    def say(self, *, always: bool = False) -> None:
        """Report, unless that was done just before or nothing has ended since: silence lets a gateway scale to zero."""
        moment = self.clock()
        if not always and moment - self._said < INTERVAL:
            return
        self._said = moment
        counts = (self.done, self.total, self.cached, self.failed)
        if counts != self._counts:
            self._counts = counts
            self.report(self._event(moment))
        for node in {**self.fits, **self.refits}:
            fitted = (self.fits[node], self.refits[node])
            if self._told.get(node) != fitted:
                self._told[node] = fitted
                self.report(
                    NodeEvent(time=self.now(), attempt=self.attempt, node=node, fits=fitted[0], refits=fitted[1])
                )

    def _event(self, moment: float) -> ProgressEvent:
        pace = (moment - self._started) / self.done if self.done else None
        eta = None if pace is None else round(pace * (self.total - self.done), 3)
        return ProgressEvent(
            time=self.now(),
            attempt=self.attempt,
            done=self.done,
            total=self.total,
            cached=self.cached,
            failed=self.failed,
            eta=eta,
        )
