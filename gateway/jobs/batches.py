"""A run of a job's events as it is stored and sent: encoded once, whoever reads it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from flaregate_wire.events import Event, encode

_HEAD = re.compile(rb'^\{"id":(\d+),"time":"[^"]*","attempt":\d+,"type":"(\w+)"')
"""How each of our own encoded lines begins: the order of the fields in the wire's models."""


@dataclass(frozen=True)
class Batch:
    """Consecutive events, one JSON line each."""

    first: int
    last: int
    lines: bytes

    @cached_property
    def sse(self) -> bytes:
        """The same as server-sent events; made once for all readers."""
        return b"".join(
            b"id: %d\nevent: %b\ndata: %b\n\n" % (number, kind_of(line), line)
            for number, line in enumerate(self.lines.splitlines(), start=self.first)
        )

    @cached_property
    def ends(self) -> bool:
        """Whether its last event is the job's last."""
        return kind_of(self.lines[self.lines.rfind(b"\n", 0, -1) + 1 :]) == b"end"

    def after(self, last_seen: int) -> "Batch":
        """Without the events that a reader has."""
        if last_seen < self.first:
            return self
        kept = self.lines.split(b"\n", last_seen - self.first + 1)[-1]
        return replace(self, first=last_seen + 1, lines=kept)

    @cached_property
    def outcomes(self) -> bytes:
        """The lines that are outcomes."""
        return b"".join(line for line in self.lines.splitlines(keepends=True) if kind_of(line) == b"outcome")


def kind_of(line: bytes) -> bytes:
    """The type of an encoded event, without parsing it."""
    found = _HEAD.match(line)
    return found[2] if found else b"message"


def batch_of(events: Iterable[Event], first: int) -> Batch:
    """Give events their ids, once."""
    lines = [encode(event.model_copy(update={"id": number})) for number, event in enumerate(events, start=first)]
    return Batch(first, first + len(lines) - 1, b"".join(line + b"\n" for line in lines))
