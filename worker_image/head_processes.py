"""The driver and the Ray of a head: started once, and kept for the next job where the head stays warm."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, Self

from worker_image.container import Container
from worker_image.driver_process import DriverProcess
from worker_image.logs import RayWorkerLogs
from worker_image.ray_cluster import RayBroken, RayNode
from worker_image.work import ALONE_SECONDS, RayReady, needs_ray

_RAY_SECONDS = 120.0
_BESIDE = 10
"""How much Ray steps back while it starts on the CPUs on which the driver's child processes work already."""


@dataclass(slots=True)
class HeadProcesses:
    """What runs on a head beside its supervisor."""

    driver: DriverProcess
    environment: Mapping[str, str]
    """The driver's, with the Ray token that it knows: a Ray that a later job starts has the same."""
    ray_logs: RayWorkerLogs | None = None
    ray: "asyncio.Task[RayNode] | None" = None
    _address: "asyncio.Task[str] | None" = None
    driver_knows: bool = False
    """Whether the driver has been told where Ray is."""

    @classmethod
    async def start(cls, environment: Mapping[str, str], driver_command: Sequence[str]) -> Self:
        """Start the driver; its job may come later."""
        return cls(await DriverProcess.start(environment, driver_command), environment)

    def logged(self, container: Container) -> RayWorkerLogs:
        """What Ray's workers print, from now on in this container's log."""
        if self.ray_logs is None:
            self.ray_logs = RayWorkerLogs(container.ray_temp, container.log)
        self.ray_logs.log = container.log
        return self.ray_logs

    @property
    def alive(self) -> bool:
        """Whether what was started runs, as far as is known."""
        return self.driver.process.returncode is None and not self._ray_failed()

    def _ray_failed(self) -> bool:
        for task in (self.ray, self._address):
            if task is not None and task.done() and (task.cancelled() or task.exception() is not None):
                return True
        return self.ray is not None and self.ray.done() and self.ray.result().process.returncode is not None

    async def address(self, container: Container) -> str:
        """Where Ray can be joined, once it can be; it is started if it is not there. Raises RayBroken.

        A head by itself starts it only for a job that needs it or that lasts: a warm one then has it for the next jobs.
        """
        if self._address is None:
            alone = container.order.cluster.topology == "single"
            definition = container.order.definition
            if alone and definition is not None and not needs_ray(definition, container.order.cluster):
                await asyncio.sleep(ALONE_SECONDS)
            given = {**self.environment, **await container.ray_environment()}
            start = RayNode.start(container.ray_command(), given, _BESIDE if alone else 0)
            self.ray = asyncio.create_task(start)
            self._address = asyncio.create_task(self._ready(self.ray))
        return await asyncio.shield(self._address)

    @staticmethod
    async def _ready(ray: "asyncio.Task[RayNode]") -> str:
        return await (await ray).head_ready(_RAY_SECONDS)

    async def break_down(self) -> NoReturn:
        """Wait until Ray, which is there, ends by itself; that raises RayBroken."""
        assert self.ray is not None  # noqa: S101 - its address was asked for
        raise RayBroken(await (await asyncio.shield(self.ray)).ended())

    async def introduce(self, address: str) -> None:
        """Tell the driver, once, where Ray is."""
        if not self.driver_knows:
            self.driver_knows = True
            await self.driver.tell(RayReady(address=address))

    async def idle(self) -> None:
        """Between two jobs: let the driver join a Ray that was started, and return when one of the two has ended."""
        ends: set[asyncio.Task[object]] = {asyncio.create_task(self.driver.process.wait())}
        meeting = None
        if self.ray is not None:
            meeting = asyncio.create_task(self._meet())
            ends.add(asyncio.create_task((await self.ray).process.wait()))
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (*ends, *([] if meeting is None else [meeting])):
                one.cancel()

    async def _meet(self) -> None:
        if self._address is not None:
            await self.introduce(await asyncio.shield(self._address))
