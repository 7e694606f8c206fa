"""A worker's way: wait for the head, join its cluster, and go when it is done."""

import asyncio
from collections.abc import Mapping

from flaregate_wire.attempts import HeadAddress
from flaregate_wire.blobs import Transfer
from worker_image.code import CodeRefused
from worker_image.container import Container
from worker_image.fetching import Reads, fetch_inputs
from worker_image.gateway_link import GatewayAway, insist
from worker_image.logs import RayWorkerLogs
from worker_image.ray_cluster import RayBroken, RayNode, listens
from worker_image.transfers import StageInFailed

_WAIT_SECONDS = 25.0
_BETWEEN_SECONDS = 0.5
"""At least this long between two answers of the gateway that bring no news."""


class Worker:
    """Lends this container to the head's cluster."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._ray_logs = RayWorkerLogs(container.ray_temp, container.log)

    async def run(self) -> None:
        """Return when the job needs no worker any more. Raises RayBroken if Ray ends under a living head."""
        container = self._container
        container.reached("booted")
        head = await self._head()
        if head is None:
            return
        if container.tls is not None:
            await container.tls.check(head.address)
        ray = await RayNode.start(container.ray_command(join=head.address), await self._environment())
        tasks = {
            asyncio.create_task(self._stay(ray, head)),
            asyncio.create_task(self._done()),
            asyncio.create_task(self._ray_logs.run()),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await self.end(grace=0)

    async def _environment(self) -> dict[str, str]:
        """Of Ray here, with the user's code; raises RayBroken where that cannot be had."""
        container, order = self._container, self._container.order

        async def renewed() -> Mapping[str, Transfer]:
            return (await insist(container.link.order_again, patience=order.lease)).blobs

        try:
            reads = Reads(order.blobs, order.sizes, renewed)
            await container.bring_code(
                await fetch_inputs(container.link.client, reads, container.blobs, patience=order.lease)
            )
        except (StageInFailed, CodeRefused) as exc:
            raise RayBroken(str(exc)) from exc
        return {**container.environment, **await container.ray_environment()}

    async def end(self, grace: float) -> None:
        """Take in what was printed last. Ray's own processes are left to `end_descendants`."""
        self._ray_logs.look(last=True)

    async def _stay(self, ray: RayNode, head: HeadAddress) -> None:
        try:
            await ray.joined(self._container.order.join_deadline)
            self._container.reached("joined")
            story = await ray.ended()
        except RayBroken as exc:
            story = str(exc)
        if await listens(head.address):
            raise RayBroken(story)

    async def _head(self) -> HeadAddress | None:
        """The head's address; None if no worker is needed any more."""
        while True:
            try:
                answer = await self._container.link.rendezvous(wait=_WAIT_SECONDS)
                if answer.done or answer.head is not None:
                    return None if answer.done else answer.head
            except GatewayAway:
                pass  # the lease, which the reporter watches, says for how long
            await asyncio.sleep(_BETWEEN_SECONDS)

    async def _done(self) -> None:
        while True:
            try:
                if (await self._container.link.rendezvous(wait=_WAIT_SECONDS, until="done")).done:
                    return
            except GatewayAway:
                pass
            await asyncio.sleep(_BETWEEN_SECONDS)
