"""Events of the driver on their way out: one that comes with files is passed on when these are in the store."""

import asyncio
from datetime import UTC, datetime

from flaregate_wire.events import ArtifactEvent
from worker_image.artifacts import put_artifact
from worker_image.container import Container
from worker_image.work import Reporting

_AT_ONCE = 8
"""Events whose files are being stored; above it the driver waits."""


class Passing:
    """Passes on what the driver reports. Events without files do not wait for those with them."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._storing: set[asyncio.Task[None]] = set()

    async def take(self, message: Reporting) -> None:
        """Take in one message; waits while there is no room."""
        await self._container.reporter.room()
        if not message.artifacts:
            self._container.reporter.report(message.event)
            return
        await self._places.acquire()
        task = asyncio.create_task(self._store(message))
        self._storing.add(task)
        task.add_done_callback(self._stored)

    def _stored(self, task: asyncio.Task[None]) -> None:
        self._places.release()
        if not task.cancelled() and task.exception() is None:
            self._storing.discard(task)

    async def settled(self) -> None:
        """Wait until every event is passed on. Raises GatewayAway, StoreRefused or OSError where one cannot be."""
        await asyncio.gather(*self._storing)

    def close(self) -> None:
        """Drop what is on its way."""
        for task in self._storing:
            task.cancel()

    async def _store(self, message: Reporting) -> None:
        container = self._container
        for artifact in message.artifacts:
            kept = await put_artifact(container.link, artifact, patience=container.order.lease)
            event = ArtifactEvent(time=datetime.now(UTC), attempt=container.order.number, **kept.model_dump())
            container.reporter.report(event)
        container.reporter.report(message.event)
