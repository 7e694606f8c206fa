"""Following a job's events over any number of cuts: where to go on, and when to stop. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from httpx_sse import ServerSentEvent
from pydantic import ValidationError

from flaregate.transport.answers import TryAgain
from flaregate.transport.calls import Call
from flaregate_wire.events import EVENT, EndEvent, Event

PATIENCE = 120.0
"""Seconds without a new event during which every try to connect failed, before a reader gives up."""
_SHORTEST, _LONGEST = 0.1, 5.0
_LOG_TRIES = 20


@dataclass(slots=True)
class Following:
    """One reader of one job's events."""

    job_id: str
    last: int = 0
    """The id of the last event taken; a stream goes on after it."""
    ended: bool = False
    _failures: int = field(default=0, init=False)
    _waited: float = field(default=0, init=False)

    def call(self) -> Call:
        """The request for what comes after the last event."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self.last:
            headers["Last-Event-ID"] = str(self.last)
        return Call("GET", f"/v1/jobs/{self.job_id}/events", headers=headers)

    def take(self, sent: ServerSentEvent) -> Event | None:
        """The event in what came, or None: a repetition, a wish to reconnect, a type of a newer gateway."""
        self._failures = 0
        if not sent.data or sent.event == "reconnect":
            return None
        number = int(sent.id) if sent.id.isdigit() else None
        if number is not None and number <= self.last:
            return None
        try:
            event = EVENT.validate_json(sent.data)
        except ValidationError:
            self.last = number or self.last
            return None
        if event.id is not None and event.id <= self.last:
            return None
        self.last = event.id or number or self.last
        self.ended = isinstance(event, EndEvent)
        return event

    def connected(self) -> None:
        """A stream has been opened: patience begins anew."""
        self._waited = 0

    def pause(self, failed: TryAgain | None) -> float:
        """Seconds to wait before the next try; raises the error of the last one when patience is over."""
        if failed is not None and self._waited >= PATIENCE:
            raise failed.error from failed.__cause__
        seconds = min(_SHORTEST * float(2 ** min(self._failures, 10)), _LONGEST)
        if failed is not None and failed.after is not None:
            seconds = min(failed.after, _LONGEST)
        self._failures += 1
        self._waited += seconds
        return seconds


@dataclass(slots=True)
class LogFollowing:
    """One reader of one job's log: where it is, in bytes of the text, and the line that is not whole yet."""

    job_id: str
    follow: bool = False
    tail: int | None = None
    cell: int | None = None
    ended: bool = False
    _position: int | None = field(default=None, init=False)
    """None before the gateway has said where the text begins."""
    _complete: bool = field(default=False, init=False)
    _rest: bytearray = field(default_factory=bytearray, init=False)
    _failures: int = field(default=0, init=False)

    def call(self) -> Call:
        """The request for the log, or for what comes after what is known."""
        given = {
            "follow": "true" if self.follow else None,
            "cell": self.cell,
            "tail": self.tail if self._position is None else None,
            "after": self._position,
        }
        params = {name: value for name, value in given.items() if value is not None}
        return Call("GET", f"/v1/jobs/{self.job_id}/logs", params, {"Accept": "text/plain"})

    def opened(self, headers: Mapping[str, str]) -> None:
        """An answer begins: where, and whether the job has ended."""
        self._position = int(headers.get("flaregate-log-start", self._position or 0))
        self._complete = headers.get("flaregate-log-complete") == "true"

    def take(self, piece: bytes) -> list[str]:
        """The lines that are whole now."""
        self._failures = 0
        self._position = (self._position or 0) + len(piece)
        *lines, last = piece.split(b"\n")
        if lines:
            lines[0], self._rest = bytes(self._rest + lines[0]), bytearray()
        self._rest += last
        return [line.decode(errors="replace") for line in lines]

    def end(self) -> list[str]:
        """The answer was whole: what is left without a line feed, unless a stream has ended only for its age."""
        self.ended = self._complete or not self.follow
        if not self.ended:
            return []
        rest, self._rest = self._rest, bytearray()
        return [rest.decode(errors="replace")] if rest else []

    def pause(self, failed: TryAgain | None) -> float:
        """Seconds to wait before the next try; patience has an end. None: the stream was old, and nothing failed."""
        if failed is None:
            return _SHORTEST
        self._failures += 1
        if self._failures > _LOG_TRIES:
            raise failed.error from failed.__cause__
        return min(_SHORTEST * float(2**self._failures), _LONGEST)
