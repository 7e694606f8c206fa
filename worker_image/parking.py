"""A head that has committed may wait for another job: it says so by a file, and takes the job from standard input.

Whoever removes the file first decides: the launcher, which then sends a line, or the head, which then ends.
"""

import asyncio
import sys
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from flaregate_wire.model import PeerModel

_LINE_SECONDS = 5.0
"""How long the line may take once the launcher has removed the file."""


class NextJob(PeerModel):
    """What a launcher writes to a parked head, as one line: what a new container has in its environment."""

    url: str
    attempt: str
    index: int
    bootstrap: str


class Parking:
    """The place of one head. Standard input is read while the head is parked, and never else."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lines: asyncio.StreamReader | None = None

    async def wait(self, seconds: float, leave: Coroutine[Any, Any, object]) -> NextJob | None:
        """Wait for another job; None after so many seconds, when `leave` is done, or when the launcher has gone."""
        lines = await self._standard_input()
        self._occupy()
        line, left = asyncio.create_task(lines.readline()), asyncio.create_task(leave)
        try:
            done, _ = await asyncio.wait({line, left}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if line not in done and self._vacate():
                return None
            with suppress(TimeoutError):
                text = await asyncio.wait_for(line, _LINE_SECONDS)
                return NextJob.model_validate_json(text) if text else None
            return None
        finally:
            self._vacate()
            for task in (line, left):
                task.cancel()

    def _occupy(self) -> None:
        draft = self._file.with_suffix(".draft")
        draft.touch(mode=0o600)
        draft.replace(self._file)

    def _vacate(self) -> bool:
        """Whether it was for us to do."""
        try:
            self._file.unlink()
        except FileNotFoundError:
            return False
        return True

    async def _standard_input(self) -> asyncio.StreamReader:
        if self._lines is None:
            self._lines = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(self._lines)
            await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        return self._lines
