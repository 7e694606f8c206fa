"""The head's way: driver, inputs and Ray at the same time, then the manifest."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from flaregate_wire.attempts import Manifest
from flaregate_wire.blobs import Transfer
from flaregate_wire.states import Reason
from worker_image.artifacts import put_artifact
from worker_image.code import CodeRefused
from worker_image.container import Container
from worker_image.driver_process import DRIVER
from worker_image.fetching import Reads, described, fetch_inputs
from worker_image.gateway_link import GatewayAway, insist
from worker_image.head_processes import HeadProcesses
from worker_image.logs import read_pipe
from worker_image.passing import Passing
from worker_image.ray_cluster import RayBroken
from worker_image.references import Network, fetch_references
from worker_image.transfers import StageInFailed, StoreRefused
from worker_image.work import Finished, GatewayAccess, Work

_MESSAGE_LENGTH = 4000
_LAST_OUTPUT_SECONDS = 0.3
"""How long to wait, after the driver's last report, for its output to be closed."""
_SETTLE_SECONDS = 0.02
"""The same for a driver that stays: what was printed before its last report is in the pipe already."""


class Head:
    """Runs one job to its end. What still runs then is left to `end_descendants`, or kept for another job."""

    def __init__(
        self, container: Container, driver_command: Sequence[str] = DRIVER, kept: HeadProcesses | None = None
    ) -> None:
        self._container = container
        self._driver_command = driver_command
        self._processes = kept
        self._passing = Passing(container)
        self._output: asyncio.Task[None] | None = None
        self._has_work = asyncio.Event()
        definition = container.order.definition
        warm = 0.0 if definition is None or container.settings.park is None else definition.warm
        self.warm = warm if container.order.cluster.topology == "single" else 0.0
        """Seconds to wait for another job."""

    @property
    def kept(self) -> HeadProcesses | None:
        """What another job can have, after this one."""
        return self._processes if self.warm and self._processes is not None and self._processes.alive else None

    async def run(self) -> Manifest:
        """Do the work, and say how it ended. The log is complete then, but not yet shipped."""
        self._container.reached("booted")
        damaged: tuple[str, ...] = ()
        try:
            finished = await self._work()
        except StageInFailed as exc:
            finished, damaged = self._unread(exc), exc.damaged
        except CodeRefused as exc:
            finished = self._failure(Reason.ENVIRONMENT_MISMATCH, exc)
        except RayBroken as exc:
            finished = self._failure(Reason.PLATFORM_ERROR, exc)
        manifest = await self._manifest(finished)
        await (self.end(grace=0) if self.kept is None else self._settle())
        return manifest.model_copy(update={"log_tail": self._container.log.tail(), "damaged": damaged})

    async def end(self, grace: float) -> None:
        """End the driver and take in its last output."""
        self.warm = 0.0
        self._passing.close()
        if self._processes is not None:
            await self._processes.driver.end(grace)
        await self._settle(_LAST_OUTPUT_SECONDS)

    async def _settle(self, seconds: float = _SETTLE_SECONDS) -> None:
        if self._output is not None:
            await asyncio.wait({self._output}, timeout=seconds)
            self._output.cancel()
        if self._processes is not None and self._processes.ray_logs is not None:
            self._processes.ray_logs.look(last=True)

    async def _work(self) -> Finished:
        container = self._container
        if self._processes is None:
            self._processes = await HeadProcesses.start(container.environment, self._driver_command)
        processes, driver = self._processes, self._processes.driver
        ray_logs = processes.logged(container)
        self._output = asyncio.create_task(read_pipe(driver.output, container.log))
        beside = {
            asyncio.create_task(self._feed(processes)),
            asyncio.create_task(self._watch_ray(processes)),
            asyncio.create_task(ray_logs.run()),
        }
        outcome = asyncio.create_task(driver.outcome(self._passing.take))
        try:
            waiting: set[asyncio.Task[Any]] = {outcome, *beside}
            while True:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if outcome in done:
                    return self._judged(outcome.result())
                for task in done:
                    task.result()
        finally:
            for task in (outcome, *beside):
                task.cancel()

    async def _feed(self, processes: HeadProcesses) -> None:
        container, order = self._container, self._container.order
        if order.definition is None:
            raise StageInFailed("the head's order has no definition")
        client, link = container.link.client, container.link
        reads = Reads(order.blobs, order.sizes, self._renewed)
        paths, files = await asyncio.gather(
            fetch_inputs(client, reads, container.blobs, patience=order.lease),
            fetch_references(order.references, Network(client), container.blobs, patience=order.lease),
        )
        folders = await container.bring_code(paths)
        container.reached("inputs_ready")
        await processes.driver.tell(
            Work(
                job=order.job,
                definition=order.definition,
                cluster=order.cluster,
                attempt=order.number,
                blobs=paths,
                references=files,
                code=folders,
                scratch=str(container.artifacts),
                join_deadline=order.join_deadline,
                gateway=GatewayAccess(
                    url=container.settings.url,
                    attempt=order.attempt,
                    token=order.token,
                    boot=link.boot,
                    drops=container.settings.drops,
                ),
                last=not self.warm,
            )
        )
        self._has_work.set()

    async def _renewed(self) -> Mapping[str, Transfer]:
        """Where inputs are read, asked for anew."""
        link, patience = self._container.link, self._container.order.lease
        return (await insist(link.order_again, patience=patience)).blobs

    async def _watch_ray(self, processes: HeadProcesses) -> None:
        container = self._container
        address = await processes.address(container)
        container.reached("ray_ready")
        await insist(lambda: container.link.register_head(address), patience=container.order.lease)
        await self._has_work.wait()
        await processes.introduce(address)
        await processes.break_down()

    def _judged(self, finished: Finished) -> Finished:
        """A driver that broke is not kept for another job."""
        if finished.reason is Reason.PLATFORM_ERROR:
            self.warm = 0.0
        return finished

    def _unread(self, exc: StageInFailed) -> Finished:
        definition = self._container.order.definition
        if not exc.damaged or definition is None:
            return self._failure(Reason.STAGE_IN_FAILED, exc)
        which = described(definition, exc.damaged)
        told = f"{which}: the store has not the bytes that were staged ({exc}); submit again, they are sent anew then"
        return self._failure(Reason.STAGE_IN_FAILED, StageInFailed(told))

    def _failure(self, reason: Reason, exc: Exception) -> Finished:
        """A failure of what the job stands on; nothing of it is kept for another one."""
        self.warm = 0.0
        return Finished(succeeded=False, reason=reason, message=str(exc)[:_MESSAGE_LENGTH])

    async def _manifest(self, finished: Finished) -> Manifest:
        container = self._container
        try:
            await self._passing.settled()
            artifacts = [
                await put_artifact(container.link, artifact, patience=container.order.lease)
                for artifact in finished.artifacts
            ]
        except (StoreRefused, GatewayAway, OSError) as exc:
            failed = self._failure(Reason.COMMIT_FAILED, exc)
            finished, artifacts = failed if finished.succeeded else finished, []
        return Manifest(
            boot=container.link.boot,
            succeeded=finished.succeeded,
            reason=finished.reason,
            message=finished.message,
            result=finished.result,
            artifacts=tuple(artifacts),
        )
