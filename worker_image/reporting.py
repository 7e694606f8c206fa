"""Events on their way to the gateway: numbered, repeated until acknowledged, and the lease that each answer renews."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from itertools import islice

from flaregate_wire.attempts import BATCH_EVENTS, BatchAnswer
from flaregate_wire.events import Reported
from flaregate_wire.limits import BATCH_BYTES
from worker_image.gateway_link import GatewayAway, GatewayLink
from worker_image.spill import Spill, fitting

_GATHER = 0.05
"""Seconds between two batches, so that a burst of events is one request."""
_QUEUE_BYTES = 16 * 1024 * 1024
"""Above this, whoever reports waits: the driver's pipe fills, and the driver waits too."""
_ENVELOPE = 1024
_RETRY = (0.1, 2.0)
"""Seconds before the first repetition and at most, while the gateway is away."""


class LeaseLost(Exception):
    """The gateway has not answered for one lease: it may have given this container up."""


class Reporter:
    """The queue of one container's events. `run` ships them until it is cancelled."""

    def __init__(self, link: GatewayLink, lease: float, on_cancel: Callable[[], None], spill: Spill) -> None:
        self._link = link
        self._lease = lease
        self._on_cancel = on_cancel
        self._spill = spill
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._first = 0
        self._changed = asyncio.Event()
        self._hurry = asyncio.Event()
        self._answered = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._room = asyncio.Event()
        self._room.set()

    def report(self, event: Reported) -> None:
        """Take an event in. It is sent within 50 ms while the gateway is there."""
        encoded = event.model_dump_json(exclude_none=True).encode()
        self._queue.append(encoded)
        self._bytes += len(encoded)
        self._settled.clear()
        self._changed.set()
        if self._bytes > _QUEUE_BYTES:
            self._room.clear()

    async def room(self) -> None:
        """Wait while the queue is full."""
        await self._room.wait()

    async def settled(self) -> None:
        """Wait until every event taken in has been acknowledged; they are sent at once from now on."""
        self._hurry.set()
        await self._settled.wait()

    async def delivered(self) -> None:
        """Wait until every event taken in until now is acknowledged, or safe in the store; not for later ones."""
        end = self._first + len(self._queue)
        while self._first < end:
            await self._answered.wait()

    async def run(self) -> None:
        """Ship until cancelled. Raises LeaseLost, AttemptOver or Refused."""
        loop = asyncio.get_running_loop()
        answered, wait = loop.time(), _RETRY[0]
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._lease / 5):  # not wait_for, which in Python 3.11 can lose a cancel
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self._send()
            except GatewayAway as exc:
                lost = loop.time() - answered > self._lease
                await self.spill()
                if lost:
                    raise LeaseLost(f"no answer for {loop.time() - answered:.0f} s: {exc}") from exc
                await asyncio.sleep(wait)
                wait = min(2 * wait, _RETRY[1], self._lease / 5)
                self._changed.set()
            else:
                answered, wait = loop.time(), _RETRY[0]
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_GATHER):
                        await self._hurry.wait()

    async def spill(self) -> None:
        """Write what is not acknowledged to the store, as far as there is room for it."""
        await self._spill.keep(self._first, self._queue)
        self._drop(self._spill.safe)

    async def _send(self) -> None:
        batch = fitting(islice(self._queue, BATCH_EVENTS), BATCH_BYTES - _ENVELOPE)
        answer = await self._link.send_events(self._first, batch, renew=self._spill.aged)
        self._drop(answer.acknowledged)
        self._spill.acknowledged(answer.acknowledged)
        if answer.spill is not None:
            self._spill.renewed(answer.spill)
        self._follow(answer)

    def _drop(self, end: int) -> None:
        """Forget the events before this number: someone else has them."""
        for _ in range(end - self._first):
            self._bytes -= len(self._queue.popleft())
        self._first = max(self._first, end)
        self._answered.set()
        self._answered = asyncio.Event()
        if self._bytes <= _QUEUE_BYTES:
            self._room.set()

    def _follow(self, answer: BatchAnswer) -> None:
        self._lease = answer.lease
        if self._queue:
            self._changed.set()
        else:
            self._settled.set()
        if answer.cancel:
            self._on_cancel()
