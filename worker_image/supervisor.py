"""The supervisor: takes one container from its order to its end. It runs no user code and no Ray of its own."""

import asyncio
import secrets
import signal
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from worker_image.container import Container, environment
from worker_image.driver_process import DRIVER
from worker_image.gateway_link import AttemptOver, GatewayAway, GatewayLink, LinkError, insist
from worker_image.head import Head
from worker_image.head_processes import HeadProcesses
from worker_image.parking import Parking
from worker_image.ray_cluster import RayBroken
from worker_image.reporting import LeaseLost, Reporter
from worker_image.settings import Settings, is_loopback
from worker_image.spill import Spill
from worker_image.transfers import put_slot
from worker_image.worker import Worker

_GRACE_SECONDS = 5.0
"""What the driver has between SIGTERM and SIGKILL."""
_LAST_WORDS_SECONDS = 2.0
"""What shipping the log and the events may take after a cancel, or when a worker's Ray is broken."""


@dataclass(frozen=True, slots=True)
class Warm:
    """How a container's job ends where the container may have another one."""

    processes: HeadProcesses
    seconds: float
    """How long it waits for that."""


class Exit(Enum):
    """How a container ends; the value is its exit code."""

    DONE = 0
    REFUSED = 1
    BROKEN = 2
    LEASE_LOST = 3


def main(scratch: Path, driver_command: Sequence[str] = DRIVER) -> int:
    """Run this container; gives its exit code."""
    # Not asyncio.run: it would close the loop and wait for tasks while the children are still there to be ended.
    loop = asyncio.new_event_loop()
    return loop.run_until_complete(supervise(Settings.take(), scratch, driver_command)).value


async def supervise(settings: Settings, scratch: Path, driver_command: Sequence[str] = DRIVER) -> Exit:
    """Fetch the order and follow it, and then the orders that a warm head is given; a spare one begins with these.

    What is still running then is for the caller to end.
    """
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    parking = None if settings.park is None else Parking(settings.park)
    warm: Warm | None = None
    if settings.spare is not None:
        given = environment(settings, scratch, secrets.token_hex(32))
        warm = Warm(await HeadProcesses.start(given, driver_command), settings.spare)
    while True:
        if warm is not None and parking is not None:
            job = await parking.wait(warm.seconds, _either(asked.wait(), warm.processes.idle()))
            if job is None:
                return Exit.DONE
            settings = replace(settings, url=job.url, attempt=job.attempt, index=job.index, bootstrap=job.bootstrap)
        kept = None if warm is None else warm.processes
        ended = await _one_job(settings, scratch, driver_command, kept, asked)
        if isinstance(ended, Exit):
            return ended
        warm = ended


async def _one_job(
    settings: Settings, scratch: Path, driver_command: Sequence[str], kept: HeadProcesses | None, asked: asyncio.Event
) -> "Exit | Warm":
    host = httpx.URL(settings.url).host
    # No proxy stands between two processes of one machine, whatever the environment says.
    async with httpx.AsyncClient(base_url=settings.url, trust_env=not is_loopback(host)) as client:
        link = GatewayLink(client, settings.attempt, boot=secrets.token_hex(8))
        try:
            order = await insist(lambda: link.order(settings.bootstrap, settings.index), patience=settings.patience)
        except AttemptOver:
            return Exit.DONE
        except LinkError as exc:
            return _say(exc, Exit.REFUSED)
        spill = Spill(link.boot, order.spill, partial(put_slot, link))
        reporter = Reporter(link, order.lease, asked.set, spill)
        container = Container(settings, order, link, spill, reporter, scratch)
        flow = Head(container, driver_command, kept) if order.role == "head" else Worker(container)
        code = await _follow(container, flow, asked)
        if container.committed and isinstance(flow, Head) and flow.kept is not None:
            container.leave()
            return Warm(flow.kept, flow.warm)
        return code


async def _either(*ways: Coroutine[Any, Any, object]) -> None:
    tasks = {asyncio.create_task(way) for way in ways}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _follow(container: Container, flow: Head | Worker, cancelled: asyncio.Event) -> Exit:
    """Run the flow to its end, unless the lease, the attempt or a wish ends it first."""
    main_task = asyncio.create_task(_to_the_end(container, flow))
    wish = asyncio.create_task(cancelled.wait())
    ways = (container.reporter.run(), container.log.run(), container.outbox.run())
    tasks = {main_task, wish, *map(asyncio.create_task, ways)}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if wish in done:
            main_task.cancel()
            await _last_words(container, flow)
        else:
            await asyncio.gather(*done)
    except AttemptOver:
        return Exit.DONE
    except (LeaseLost, GatewayAway) as exc:
        await container.leave_behind()
        return _say(exc, Exit.LEASE_LOST)
    except RayBroken as exc:
        container.log.write(f"worker {container.order.index}: {exc}\n".encode())
        await _last_words(container, flow)
        return _say(exc, Exit.BROKEN)
    except LinkError as exc:
        return _say(exc, Exit.REFUSED)
    finally:
        for task in tasks:
            task.cancel()
    return Exit.DONE


async def _to_the_end(container: Container, flow: Head | Worker) -> None:
    manifest = await flow.run()
    await container.outbox.flush()
    await insist(container.log.flush, patience=container.order.lease)
    await container.reporter.settled()
    if manifest is not None:
        await insist(lambda: container.link.commit(manifest), patience=container.order.lease)
        container.committed = True


async def _last_words(container: Container, flow: Head | Worker) -> None:
    await flow.end(_GRACE_SECONDS)
    try:
        async with asyncio.timeout(_LAST_WORDS_SECONDS):
            await container.outbox.flush()
            await container.log.flush()
            await container.reporter.settled()
    except (TimeoutError, LinkError):
        await container.leave_behind()


def _say(exc: Exception, code: Exit) -> Exit:
    print(f"{type(exc).__name__}: {exc}", file=sys.stderr, flush=True)  # noqa: T201 - the platform keeps this
    return code
