"""Events and log in the store while the gateway is away: a few slots, each one object, by requests given beforehand.

The gateway takes in what it finds there when it judges the attempt, or when later events come: nothing is lost though
the container ends meanwhile, and what is in a full slot need not be held. An event tells of each segment of the log.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from flaregate_wire.attempts import BATCH_EVENTS, Slots
from flaregate_wire.blobs import Transfer
from flaregate_wire.limits import SPILL_BYTES
from worker_image.gateway_link import GatewayAway, batch_body
from worker_image.transfers import StoreRefused

_ENVELOPES = 64 * 1024
"""Of a slot, for what is around the events."""
_AGED = 1 / 3
"""Of their time, after which the requests are renewed: what is left is longer than a lease."""

_PATIENCE = 20.0
"""Seconds for what is written at once."""

Put = Callable[[Transfer, bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Filled:
    body: bytes
    end: int
    full: bool


class Spill:
    """The slots of one container. Without any it keeps nothing, and everything is as if it were not there."""

    def __init__(self, boot: str, slots: Slots | None, put: Put, clock: Callable[[], float] = time.monotonic) -> None:
        self._boot = boot
        self._put = put
        self._clock = clock
        self._slot = 0
        self._end = 0
        self._writing: _Filled | None = None
        self._turn = asyncio.Lock()
        self.safe = 0
        """The number of the first event that is not in a full slot: those before it need not be held."""
        self.renewed(slots)

    def renewed(self, slots: Slots | None) -> None:
        """Take requests for the same slots that are good for longer."""
        self._requests: tuple[Transfer, ...] = () if slots is None else slots.put
        self._logs = [] if slots is None else [*slots.logs]
        self._used = False
        self._old = float("inf") if slots is None else self._clock() + slots.seconds * _AGED

    @property
    def aged(self) -> bool:
        """Whether the requests should be renewed."""
        return self._used or self._clock() >= self._old

    def acknowledged(self, number: int) -> None:
        """The gateway has all events before this one; when it has all that was written the slots are free again."""
        self._writing = None
        if number >= self._end:
            self._slot = 0

    async def keep(self, first: int, queue: Sequence[bytes]) -> None:
        """Write the queue, whose first event has this number, as far as the slots suffice. Raises nothing of the store.

        A slot that is not full yet is written anew with all that is in it and what has come since. What could not be
        written is written again with the same bytes, so that it does no harm if the first try arrives after all.
        """
        async with self._turn:
            try:
                async with asyncio.timeout(_PATIENCE):
                    while self._slot < len(self._requests) and await self._fill(first, queue):
                        pass
            except (GatewayAway, StoreRefused, TimeoutError):
                return

    async def keep_log(self, segment: bytes) -> str | None:
        """Write a segment of the log; gives its key, or None where no request is left or the store is away too."""
        if not self._logs:
            return None
        self._used = True
        key, request = self._logs.pop(0)  # after a failure too: it may arrive after all
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._put(request, segment)
        except (GatewayAway, StoreRefused, TimeoutError):
            return None
        return key

    async def _fill(self, first: int, queue: Sequence[bytes]) -> bool:
        """Write into the current slot; gives whether there is more for the next one."""
        filled = self._writing = self._writing or self._filled(first, queue)
        if filled.end > self._end:
            await self._put(self._requests[self._slot], filled.body)
        self._writing, self._end = None, max(self._end, filled.end)
        if filled.full:
            self._slot, self.safe = self._slot + 1, filled.end
        return filled.full

    def _filled(self, first: int, queue: Sequence[bytes]) -> _Filled:
        start = max(first, self.safe)
        taken = fitting(islice(queue, start - first, None), SPILL_BYTES - _ENVELOPES)
        end = start + len(taken)
        return _Filled(b"\n".join(self._lines(start, taken)), end, full=end < first + len(queue))

    def _lines(self, start: int, events: Sequence[bytes]) -> Iterator[bytes]:
        for place in range(0, len(events), BATCH_EVENTS):
            yield batch_body(self._boot, start + place, events[place : place + BATCH_EVENTS])


def fitting(events: Iterable[bytes], size: int) -> list[bytes]:
    """As many of the events as fit into a size together."""
    taken: list[bytes] = []
    for event in events:
        size -= len(event) + 1
        if size < 0:
            break
        taken.append(event)
    return taken
