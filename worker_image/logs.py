"""One log for each container: the driver's output and that of Ray's workers, shipped in segments as it is made."""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from flaregate_wire.limits import LOG_TAIL_LINES
from worker_image.gateway_link import GatewayAway
from worker_image.transfers import StoreRefused

SEGMENT_BYTES, LARGEST_BYTES = 256 * 1024, 4 * 1024 * 1024
"""What is shipped at once: more from a container that prints on and on, so that its log has some hundred segments."""
_SHARE = 64
"""A segment is this part of what has been shipped before it, within these bounds."""
_CONTINUATION = range(0x80, 0xC0)
"""Bytes of UTF-8 before which a character is not at its end."""
_BUFFER_BYTES = 8 * 1024 * 1024
"""Above this, whoever writes waits."""
_WAITS = (0.2, 2.0)
"""Seconds between segments: short for the first output and after silence, longer for who prints on and on."""
_KEPT = (1, 2, 4, 8, 16, 32)
"""In which of the tries while the gateway is away, one a second, the log is kept without it; then in each 32nd."""
_LOOK_SECONDS = 0.2
_READ_BYTES = 256 * 1024
_LINE_BYTES = 64 * 1024
"""A longer line of a Ray worker is shipped in pieces."""

_RAYS_OWN_LINES = re.compile(
    rb"^(:(job_id|actor_name|task_name):"  # headers that Ray writes for its log monitor
    rb"|\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ [A-Z] \d+ \d+\] "  # its C++ log
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+\t(DEBUG|INFO|WARNING)\s"  # its Python log
    rb"|\*\*\* SIG[A-Z]+ received at time=|PC: @ +0x|    @ +0x)"  # its C++ stack when it ends a worker
)

Ship = Callable[[int, bytes], Awaitable[None]]
"""Write the segment that starts at this offset to the store, and announce it."""
Keep = Callable[[int, bytes], Awaitable[bool]]
"""The same without the gateway, as far as that can be done; gives whether it was."""


class ContainerLog:
    """What has been written and not yet shipped. `run` ships until it is cancelled."""

    def __init__(self, ship: Ship, keep: Keep) -> None:
        self._ship = ship
        self._keep = keep
        self._buffer = bytearray()
        self._start = 0
        self._away = 0
        """Tries in which the gateway was away, since something was shipped."""
        self._tail = bytearray()
        self._written = asyncio.Event()
        self._full = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._shipping = asyncio.Lock()

    def write(self, data: bytes) -> None:
        self._buffer += data
        self._tail = (self._tail + data)[-LOG_TAIL_LINES * 1024 :]
        self._written.set()
        if len(self._buffer) >= self._most:
            self._full.set()
        if len(self._buffer) > _BUFFER_BYTES:
            self._room.clear()

    async def room(self) -> None:
        """Wait while too much is unshipped."""
        await self._room.wait()

    def tail(self) -> tuple[str, ...]:
        """The last lines, at most 20."""
        lines = self._tail.decode(errors="replace").splitlines()
        return tuple(lines[-LOG_TAIL_LINES:])

    async def run(self) -> None:
        """Ship what is written, until cancelled. Raises what `ship` raises, except that the store is away."""
        loop = asyncio.get_running_loop()
        wait = _WAITS[0]
        while True:
            shipped = loop.time()
            await self._written.wait()
            silent = loop.time() - shipped > wait
            wait = _WAITS[0] if silent else min(wait * 1.5, _WAITS[1])
            await _at_most(wait, self._full)
            try:
                await self.flush()
            except GatewayAway:
                self._away += 1
                if self._away in _KEPT or not self._away % _KEPT[-1] or not self._room.is_set():
                    await self.keep()
                await asyncio.sleep(1.0)

    async def flush(self) -> None:
        """Ship all that has been written until now."""
        async with self._shipping:
            self._written.clear()
            end = self._start + len(self._buffer)
            while self._start < end:
                segment = bytes(self._buffer[: self._cut(end - self._start)])
                try:
                    await self._ship(self._start, segment)
                except (GatewayAway, StoreRefused):
                    self._written.set()
                    raise
                self._shipped(len(segment))
                self._away = 0

    async def keep(self) -> None:
        """Write all that is not shipped to the store as one segment, though the gateway is away."""
        async with self._shipping:
            segment = bytes(self._buffer)
            if segment and await self._keep(self._start, segment):
                self._shipped(len(segment))

    def _shipped(self, size: int) -> None:
        del self._buffer[:size]
        self._start += size
        if len(self._buffer) < self._most:
            self._full.clear()
        if len(self._buffer) <= _BUFFER_BYTES:
            self._room.set()

    @property
    def _most(self) -> int:
        return min(max(SEGMENT_BYTES, self._start // _SHARE), LARGEST_BYTES)

    def _cut(self, size: int) -> int:
        """Where the next segment ends: if more follows, at a line's end, so that no other log divides it."""
        if size <= (most := self._most):
            return size
        if line := self._buffer.rfind(b"\n", most // 2, most) + 1:
            return line
        return next((place for place in range(most, most - 4, -1) if self._buffer[place] not in _CONTINUATION), most)


async def _at_most(seconds: float, event: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return


async def read_pipe(reader: asyncio.StreamReader, log: ContainerLog) -> None:
    """Copy a child's output into the log until its last writer has closed it."""
    while data := await reader.read(_READ_BYTES):
        await log.room()
        log.write(data)


@dataclass(slots=True)
class _Tailed:
    offset: int = 0
    rest: bytes = b""


class RayWorkerLogs:
    """Tails the files into which Ray's workers print; the lines that Ray itself writes there are left out."""

    def __init__(self, temp: Path, log: ContainerLog) -> None:
        self._folder = temp / "session_latest" / "logs"
        self.log = log
        """Where the lines go now."""
        self._files: dict[str, _Tailed] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self.log.room()
            self.look()

    def look(self, *, last: bool = False) -> None:
        """Copy what is new. Lines stay whole, and only with `last` is a line without its end taken."""
        if not self._folder.is_dir():
            return
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.startswith("worker-") and entry.name.endswith((".out", ".err")):
                    tailed = self._files.setdefault(entry.name, _Tailed())
                    while entry.stat().st_size > tailed.offset:
                        self._copy(Path(entry.path), tailed)
                        if not last:
                            break
        if last:
            for tailed in self._files.values():
                self._pass_on(tailed.rest)
                tailed.rest = b""

    def _copy(self, path: Path, tailed: _Tailed) -> None:
        with path.open("rb") as file:
            file.seek(tailed.offset)
            data = file.read(_READ_BYTES)
        tailed.offset += len(data)
        lines, newline, tailed.rest = (tailed.rest + data).rpartition(b"\n")
        self._pass_on(lines + newline)
        if len(tailed.rest) > _LINE_BYTES:
            self._pass_on(tailed.rest)
            tailed.rest = b""

    def _pass_on(self, lines: bytes) -> None:
        users = b"".join(line for line in lines.splitlines(keepends=True) if not _RAYS_OWN_LINES.match(line))
        if users:
            self.log.write(users)
