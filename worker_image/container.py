"""What head and worker share: the order, the way to the gateway, the log, and a folder of their own."""

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from flaregate_wire.attempts import Order
from flaregate_wire.events import AttemptEvent, AttemptPhase, LogEvent
from worker_image.code import BroughtIn, OwnCode, brought_in
from worker_image.gateway_link import GatewayLink
from worker_image.logs import ContainerLog
from worker_image.node_tls import NodeTls, mint
from worker_image.outbox import Outbox
from worker_image.ray_cluster import ray_environment, start_command
from worker_image.reporting import Reporter
from worker_image.settings import Settings
from worker_image.spill import Spill
from worker_image.transfers import put_bytes


class Container:
    """One container of an attempt while it runs. On a warm head the next attempt's takes over the folder."""

    def __init__(
        self, settings: Settings, order: Order, link: GatewayLink, spill: Spill, reporter: Reporter, scratch: Path
    ) -> None:
        self.settings = settings
        self.order = order
        self.link = link
        self.reporter = reporter
        self.log = ContainerLog(self._ship_log, self._keep_log)
        self._spill = spill
        self.committed = False
        """Whether the gateway has taken the manifest."""
        self.blobs = scratch / "blobs"
        self.artifacts = scratch / "artifacts"
        self.ray_temp = scratch / "r"
        outbox = scratch / "outbox"
        for folder in (self.blobs, self.artifacts, outbox):
            shutil.rmtree(folder, ignore_errors=True)  # of the job before, on a warm head
            folder.mkdir()
        self.outbox = Outbox(outbox, link, reporter, self.log.write, attempt=order.number, patience=order.lease)
        self.tls = None if order.node_secret is None else self._minted(order.node_secret, scratch)
        certified = {} if self.tls is None else self.tls.environment
        self.environment = {**environment(settings, scratch, order.ray_token), **certified}
        self._code = scratch / "code"
        self._packages = settings.packages or scratch / "packages"
        self._brought = BroughtIn()
        self._own_code: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()

    def _minted(self, secret: str, scratch: Path) -> NodeTls:
        return mint(secret, self.settings.node_ip, scratch / "tls", _now(), self.order.deadline)

    async def bring_code(self, paths: Mapping[str, str]) -> tuple[str, ...]:
        """Unpack and install what the job brings, of the fetched blobs; gives folders to import from.

        Raises CodeRefused.
        """
        own = OwnCode.of(self.order.code, self.order.requirements, paths)
        self._brought = await brought_in(own, self._code, self._packages, self.log.write)
        self._own_code.set_result(self._brought.folders)
        return self._brought.folders

    def leave(self) -> None:
        """Let go what this job has of the node, before a warm head has another one."""
        self._brought.leave()

    async def ray_environment(self) -> dict[str, str]:
        """What Ray is started with, once the job's code is here: its workers run user code."""
        folders = await asyncio.shield(self._own_code)
        first = [*folders, *filter(None, [self.environment.get("PYTHONPATH")])]
        return {"PYTHONPATH": os.pathsep.join(first)} if first else {}

    def reached(self, phase: AttemptPhase) -> None:
        """Report that this container has reached a phase now."""
        self.reporter.report(AttemptEvent(time=_now(), attempt=self.order.number, phase=phase, index=self.order.index))

    def ray_command(self, join: str | None = None) -> Sequence[str]:
        """How Ray is started here: as the head, or to join the head at `join`."""
        return start_command(self.settings.node_ip, self.ray_temp, self.order.cluster, join, self.order.index)

    async def _ship_log(self, start: int, segment: bytes) -> None:
        self._shipped(start, segment, await put_bytes(self.link, f"logs/{self.order.index}/{start:012d}", segment))

    async def _keep_log(self, start: int, segment: bytes) -> bool:
        key = await self._spill.keep_log(segment)
        if key is not None:
            self._shipped(start, segment, key)
        return key is not None

    def _shipped(self, start: int, segment: bytes, key: str) -> None:
        self.reporter.report(
            LogEvent(
                time=_now(), attempt=self.order.number, index=self.order.index, key=key, start=start, size=len(segment)
            )
        )

    async def leave_behind(self) -> None:
        """Write what the gateway has not had to the store, where it finds it."""
        await self.log.keep()
        await self.reporter.spill()


def environment(settings: Settings, scratch: Path, ray_token: str) -> dict[str, str]:
    """What the driver and Ray of a container are started with."""
    temp = scratch / "tmp"
    temp.mkdir(exist_ok=True)
    own = {"FLAREGATE_OUTBOX": str(scratch / "outbox")}
    return ray_environment(settings.child_environment, ray_token, temp) | own


def _now() -> datetime:
    return datetime.now(UTC)
