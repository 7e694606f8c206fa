"""`python -m worker_image.driver --report-fd N`: runs jobs, one after the other. Unpickles nothing of the user's.

Reads Work and RayReady from standard input, in whichever order they come, and writes events and the end of each job to
the descriptor. A job begins on child processes of this machine, and goes over to Ray when that is there. What is
printed is the job's log.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO, Literal

from pydantic import ValidationError

from flaregate_wire.events import Reported
from flaregate_wire.states import Reason
from worker_image.cache import Cache, CacheAccess, GatewayCache, NoCache
from worker_image.engine.prepare import JobFailed
from worker_image.engine.runner import Runner
from worker_image.job import refused, run_job
from worker_image.joining import Joining
from worker_image.process_runner.handover import SETTLE_SECONDS, HandoverRunner, Successor
from worker_image.process_runner.nursery import Zygote
from worker_image.process_runner.runner import ProcessRunner
from worker_image.work import ALONE_SECONDS, Finished, LocalArtifact, RayReady, Reporting, Work, needs_ray

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run the jobs that standard input describes, until the last of them."""
    parser = argparse.ArgumentParser(prog="worker_image.driver")
    parser.add_argument("--report-fd", type=int, required=True)
    descriptor: int = parser.parse_args(arguments).report_fd
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    zygote = Zygote.split_off()  # before there is a second thread
    ray, jobs = Joining(), SimpleQueue[Work]()
    Thread(target=_read, args=(sys.stdin, jobs, ray), name="read", daemon=True).start()
    with os.fdopen(descriptor, "w", buffering=1, encoding="utf-8") as reports:
        last = False
        while not last:
            work = jobs.get()
            last = work.last
            with ExitStack() as ending:
                finished = _run(work, partial(_runner, work, zygote, ray, ending), reports)
                reports.write(finished.model_dump_json() + "\n")  # before what takes time at a job's end
            if not last:
                ray.want()
    zygote.close()
    return 0


def _read(lines: Iterable[str], jobs: "SimpleQueue[Work]", ray: Joining) -> None:
    """Until the supervisor has gone, which leaves nobody to work for."""
    for line in lines:
        try:
            jobs.put(Work.model_validate_json(line))
        except ValidationError:
            ray.ready(RayReady.model_validate_json(line).address)
    os._exit(1)


def _run(work: Work, runner: Callable[[], Runner], reports: IO[str]) -> Finished:
    def report(event: Reported, files: Sequence[LocalArtifact] = ()) -> None:
        reports.write(Reporting(event=event, artifacts=tuple(files)).model_dump_json() + "\n")

    try:
        return run_job(work, runner(), report, cache=lambda: _cache(work), job=work.job)
    except JobFailed as error:
        return refused(error)
    except Exception as error:
        log.exception("the driver broke")
        return Finished(succeeded=False, reason=Reason.PLATFORM_ERROR, message=f"{type(error).__name__}: {error}")


def _cache(work: Work) -> Cache:
    access = work.gateway
    if access is None:
        return NoCache()
    mode: Literal["on", "read"] = "read" if work.definition.cache == "read" else "on"
    given = CacheAccess(url=access.url, attempt=access.attempt, token=access.token, mode=mode, drops=access.drops)
    return GatewayCache(given, Path(work.scratch) / "cache")


def _runner(work: Work, zygote: Zygote, ray: Joining, ending: ExitStack) -> Runner:
    """Ray alone where the job wants what only Ray has."""
    cluster = work.cluster
    if needs_ray(work.definition, cluster):
        from worker_image.ray_runner import RayRunner  # noqa: PLC0415 - see Joining

        return RayRunner(ray.wait(), cluster.min_workers, work.join_deadline)
    here = ProcessRunner(zygote, slots=max(1, int(cluster.cpus)), host="head")
    settle = SETTLE_SECONDS if cluster.workers else ALONE_SECONDS
    return ending.enter_context(closing(HandoverRunner(here, later=lambda: _on(ray), settle=settle)))


def _on(ray: Joining) -> Successor | None:
    connection = ray.connection()
    if connection is None:
        return None
    from worker_image.ray_runner import RayRunner  # noqa: PLC0415 - see Joining

    return RayRunner(connection)


if __name__ == "__main__":
    sys.exit(main())
