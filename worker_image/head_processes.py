"""The driver and the Ray of a head: started once, and kept for the next job where the head stays warm."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from worker_image.container import Container
from worker_image.driver_process import DriverProcess
from worker_image.logs import RayWorkerLogs
from worker_image.ray_cluster import RayBroken, RayNode
from worker_image.work import RayReady

_RAY_SECONDS = 120.0
_BESIDE = 10
"""How much Ray steps back while it starts on the CPUs on which the driver's child processes work already."""


@dataclass(slots=True)
class HeadProcesses:
    """What runs on a head beside its supervisor."""

    driver: DriverProcess
    ray: RayNode
    ray_logs: RayWorkerLogs
    _address: "asyncio.Task[str]"
    driver_knows: bool = False
    """Whether the driver has been told where Ray is."""

    @classmethod
    async def start(cls, container: Container, driver_command: Sequence[str]) -> "HeadProcesses":
        driver = await DriverProcess.start(container.environment, driver_command)
        nice = _BESIDE if container.order.cluster.topology == "single" else 0
        ray = await RayNode.start(container.ray_command(), container.environment, nice)
        address = asyncio.create_task(ray.head_ready(_RAY_SECONDS))
        return cls(driver, ray, RayWorkerLogs(container.ray_temp, container.log), address)

    @property
    def alive(self) -> bool:
        """Whether both run, as far as is known."""
        started = not self._address.done() or self._address.exception() is None
        return started and self.driver.process.returncode is None and self.ray.process.returncode is None

    async def address(self) -> str:
        """Where Ray can be joined, once it can be. Raises RayBroken."""
        return await asyncio.shield(self._address)

    async def break_down(self) -> NoReturn:
        """Wait until Ray ends by itself, which raises RayBroken."""
        await self.address()
        raise RayBroken(await self.ray.ended())

    async def introduce(self) -> None:
        """Tell the driver, once, where Ray is, when it can be joined. Raises RayBroken."""
        address = await self.address()
        if not self.driver_knows:
            self.driver_knows = True
            await self.driver.tell(RayReady(address=address))

    async def idle(self) -> None:
        """Between two jobs: let the driver join Ray, and return when one of the two has ended."""
        meeting = asyncio.create_task(self.introduce())
        ends = {asyncio.create_task(one.process.wait()) for one in (self.driver, self.ray)}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (meeting, *ends):
                one.cancel()
