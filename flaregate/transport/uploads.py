"""What is sent of one blob after one answer to its offer: the whole, or some of its missing parts. No I/O."""

from collections.abc import Callable
from dataclasses import dataclass, field

from flaregate.payload import Staged
from flaregate.transport.calls import Body, Call, upload
from flaregate_wire.blobs import BlobAnswer, Sending

Sent = Callable[[str, int], None]
"""Told how many bytes of a blob have gone, those that were there before too."""


@dataclass(slots=True)
class Round:
    """The requests, and how far they are."""

    item: Staged
    offered: BlobAnswer
    sent: Sent
    _gone: dict[int, int] = field(init=False)
    """Bytes by the place where they begin."""

    def __post_init__(self) -> None:
        self._gone = {self._span(sending)[0]: 0 for sending in self.offered.upload}

    @property
    def missing(self) -> int:
        """Bytes that are not there before it."""
        whole = any(sending.part is None for sending in self.offered.upload)
        return self.item.size if whole else self.offered.missing

    @property
    def last(self) -> bool:
        """Whether everything is there after it."""
        spans = map(self._span, self.offered.upload)
        return self.missing == sum(stop - start for start, stop in spans)

    def calls(self) -> tuple[Call, ...]:
        """All of its requests."""
        return tuple(self._call(sending) for sending in self.offered.upload)

    def _call(self, sending: Sending) -> Call:
        start, stop = self._span(sending)
        return upload(sending, Body(self.item, start, stop, lambda done: self._tell(start, done)))

    def _tell(self, start: int, done: int) -> None:
        self._gone[start] = done  # threads do it, and no place is ever added
        self.sent(self.item.sha256, self.item.size - self.missing + sum(self._gone.values()))

    def _span(self, sending: Sending) -> tuple[int, int]:
        if sending.part is None:
            return 0, self.item.size
        each = self.item.parts[0].size
        start = sending.part * each
        return start, start + self.item.parts[sending.part].size
