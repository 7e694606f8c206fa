"""The head's way: Ray, inputs and driver at the same time, then the manifest."""

import asyncio
from collections.abc import Sequence
from typing import Any

from flaregate_wire.attempts import Manifest
from flaregate_wire.states import Reason
from worker_image.container import Container
from worker_image.driver_process import DRIVER, DriverProcess
from worker_image.gateway_link import GatewayAway, insist
from worker_image.logs import RayWorkerLogs, read_pipe
from worker_image.ray_cluster import RayBroken, RayNode
from worker_image.transfers import StageInFailed, StoreRefused, fetch_inputs, put_artifact
from worker_image.work import Finished, RayReady, Work

_RAY_SECONDS = 120.0
_MESSAGE_LENGTH = 4000
_LAST_OUTPUT_SECONDS = 0.3
"""How long to wait, after the driver's last report, for its output to be closed."""


class Head:
    """Runs the driver to its end, and leaves everything else that still runs to `end_descendants`."""

    def __init__(self, container: Container, driver_command: Sequence[str] = DRIVER) -> None:
        self._container = container
        self._driver_command = driver_command
        self._driver: DriverProcess | None = None
        self._output: asyncio.Task[None] | None = None
        self._has_work = asyncio.Event()
        self._ray_logs = RayWorkerLogs(container.ray_temp, container.log)

    async def run(self) -> Manifest:
        """Do the work, and say how it ended. The log is complete then, but not yet shipped."""
        self._container.reached("booted")
        try:
            finished = await self._work()
        except StageInFailed as exc:
            finished = _failure(Reason.STAGE_IN_FAILED, exc)
        except RayBroken as exc:
            finished = _failure(Reason.PLATFORM_ERROR, exc)
        manifest = await self._manifest(finished)
        await self.end(grace=0)
        return manifest.model_copy(update={"log_tail": self._container.log.tail()})

    async def end(self, grace: float) -> None:
        """End the driver and take in its last output."""
        if self._driver is not None:
            await self._driver.end(grace)
        if self._output is not None:
            await asyncio.wait({self._output}, timeout=_LAST_OUTPUT_SECONDS)
            self._output.cancel()
        self._ray_logs.look(last=True)

    async def _work(self) -> Finished:
        container = self._container
        ray = await RayNode.start(container.ray_command(), container.environment)
        self._driver = driver = await DriverProcess.start(container.environment, self._driver_command)
        self._output = asyncio.create_task(read_pipe(driver.output, container.log))
        beside = {
            asyncio.create_task(self._feed(driver)),
            asyncio.create_task(self._watch_ray(ray, driver)),
            asyncio.create_task(self._ray_logs.run()),
        }
        outcome = asyncio.create_task(driver.outcome(container.reporter.report, container.reporter.room))
        try:
            waiting: set[asyncio.Task[Any]] = {outcome, *beside}
            while True:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if outcome in done:
                    return outcome.result()
                for task in done:
                    task.result()
        finally:
            for task in (outcome, *beside):
                task.cancel()

    async def _feed(self, driver: DriverProcess) -> None:
        container, order = self._container, self._container.order
        if order.definition is None:
            raise StageInFailed("the head's order has no definition")
        client = container.link.client
        paths = await fetch_inputs(client, order.blobs, container.blobs, patience=order.lease)
        container.reached("inputs_ready")
        await driver.tell(
            Work(
                definition=order.definition,
                cluster=order.cluster,
                attempt=order.number,
                blobs=paths,
                scratch=str(container.artifacts),
                join_deadline=order.join_deadline,
            )
        )
        self._has_work.set()

    async def _watch_ray(self, ray: RayNode, driver: DriverProcess) -> None:
        container = self._container
        address = await ray.head_ready(_RAY_SECONDS)
        container.reached("ray_ready")
        await insist(lambda: container.link.register_head(address), patience=container.order.lease)
        await self._has_work.wait()
        await driver.tell(RayReady(address=address))
        raise RayBroken(await ray.ended())

    async def _manifest(self, finished: Finished) -> Manifest:
        container = self._container
        try:
            artifacts = [
                await put_artifact(container.link, artifact, patience=container.order.lease)
                for artifact in finished.artifacts
            ]
        except (StoreRefused, GatewayAway, OSError) as exc:
            finished, artifacts = _failure(Reason.COMMIT_FAILED, exc), []
        return Manifest(
            boot=container.link.boot,
            succeeded=finished.succeeded,
            reason=finished.reason,
            message=finished.message,
            result=finished.result,
            artifacts=tuple(artifacts),
        )


def _failure(reason: Reason, exc: Exception) -> Finished:
    return Finished(succeeded=False, reason=reason, message=str(exc)[:_MESSAGE_LENGTH])
