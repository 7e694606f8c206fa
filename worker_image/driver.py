"""`python -m worker_image.driver --report-fd N`: runs one job on the attempt's Ray. Unpickles nothing of the user's.

Reads Work and RayReady from standard input, in whichever order they come, and writes events and the end to the
descriptor. What it prints is the job's log.
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from flaregate_wire.events import Reported
from flaregate_wire.states import Reason
from worker_image.engine.prepare import JobFailed
from worker_image.job import refused, run_job
from worker_image.ray_runner import RayRunner, connect
from worker_image.work import Finished, LocalArtifact, RayReady, Reporting, Work

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run the job that standard input describes."""
    parser = argparse.ArgumentParser(prog="worker_image.driver")
    parser.add_argument("--report-fd", type=int, required=True)
    descriptor: int = parser.parse_args(arguments).report_fd
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    with os.fdopen(descriptor, "w", buffering=1, encoding="utf-8") as reports:
        messages = _read(sys.stdin)
        if messages is None:
            return 1
        finished = _run(*messages, reports)
        reports.write(finished.model_dump_json() + "\n")
    return 0


def _read(lines: Iterable[str]) -> tuple[Work, RayReady] | None:
    """The two messages; None if the supervisor went away before."""
    work: Work | None = None
    ray: RayReady | None = None
    for line in lines:
        try:
            work = Work.model_validate_json(line)
        except ValidationError:
            ray = RayReady.model_validate_json(line)
        if work is not None and ray is not None:
            return work, ray
    return None


def _run(work: Work, ray: RayReady, reports: IO[str]) -> Finished:
    def report(event: Reported, files: Sequence[LocalArtifact] = ()) -> None:
        reports.write(Reporting(event=event).model_dump_json() + "\n")

    try:
        return run_job(work, RayRunner(connect(ray.address), work.cluster.min_workers, work.join_deadline), report)
    except JobFailed as error:
        return refused(error)
    except Exception as error:
        log.exception("the driver broke")
        return Finished(succeeded=False, reason=Reason.PLATFORM_ERROR, message=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main())
