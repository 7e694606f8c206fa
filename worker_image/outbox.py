"""A container's outbox: what running code says of itself (flaregate.running) is brought to the store and the gateway.

A note and its data are removed when the gateway has them: that is what the code waits for before its outcome is told.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from flaregate.notes import NOTE, ArtifactNote, MetricsNote, Note
from flaregate_wire.events import ArtifactEvent, MetricsEvent
from worker_image.artifacts import put_artifact
from worker_image.gateway_link import GatewayAway, GatewayLink
from worker_image.reporting import Reporter
from worker_image.transfers import StoreRefused
from worker_image.work import LocalArtifact

_LOOK = 0.05
"""Seconds between two looks."""


class Outbox:
    """The folder, and the way out of it. What cannot be kept is told in the log: `tell` takes lines."""

    def __init__(
        self,
        folder: Path,
        link: GatewayLink,
        reporter: Reporter,
        tell: Callable[[bytes], None],
        *,
        attempt: int,
        patience: float,
    ) -> None:
        self._folder = folder
        self._link = link
        self._reporter = reporter
        self._tell = tell
        self._attempt = attempt
        self._patience = patience
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Bring notes on their way until cancelled. Raises AttemptOver or Refused."""
        while True:
            await self.flush()
            await asyncio.sleep(_LOOK)

    async def flush(self) -> None:
        """Send all that is there now, the oldest first."""
        async with self._sending:
            notes = sorted(self._folder.glob("*.json"))
            for path in notes:
                await self._send(path)
            if notes:
                await self._reporter.delivered()
            for path in notes:
                path.with_suffix(".data").unlink(missing_ok=True)
                path.unlink()

    async def _send(self, path: Path) -> None:
        try:
            note = _read(path)
            if isinstance(note, MetricsNote):
                self._reporter.report(self._figures(note))
            else:
                self._reporter.report(await self._kept(note, path.with_suffix(".data")))
        except (ValidationError, StoreRefused, GatewayAway, OSError) as exc:
            self._tell(f"something that running code has left was not kept: {exc}\n".encode())

    def _figures(self, note: MetricsNote) -> MetricsEvent:
        return MetricsEvent(
            time=datetime.now(UTC), attempt=self._attempt, candidate=note.candidate, step=note.step, values=note.values
        )

    async def _kept(self, note: ArtifactNote, data: Path) -> ArtifactEvent:
        local = LocalArtifact(name=note.name, path=str(data), media_type=note.media_type)
        kept = await put_artifact(self._link, local, self._patience)
        return ArtifactEvent(time=datetime.now(UTC), attempt=self._attempt, **kept.model_dump())


def _read(path: Path) -> Note:
    return NOTE.validate_json(path.read_bytes())
