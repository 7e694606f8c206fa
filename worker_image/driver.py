"""`python -m worker_image.driver --report-fd N`: runs one job on the attempt's Ray. Unpickles nothing of the user's.

Reads Work and RayReady from standard input, in whichever order they come, and writes events and the end to the
descriptor. What it prints is the job's log.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from flaregate_wire.definitions import Blob, JobDefinition, Splits
from flaregate_wire.events import Reported
from flaregate_wire.planning import plan
from flaregate_wire.states import Reason
from worker_image.engine.engine import Engine
from worker_image.engine.prepare import JobFailed
from worker_image.engine.runner import Runner
from worker_image.engine.session import Context
from worker_image.ray_runner import RayRunner, connect
from worker_image.work import Finished, RayReady, Reporting, Work

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
    def report(event: Reported) -> None:
        reports.write(Reporting(event=event).model_dump_json() + "\n")

    try:
        return run_job(work, RayRunner(connect(ray.address), work.cluster.min_workers, work.join_deadline), report)
    except JobFailed as error:
        return _refused(error)
    except Exception as error:
        log.exception("the driver broke")
        return Finished(succeeded=False, reason=Reason.PLATFORM_ERROR, message=f"{type(error).__name__}: {error}")


def run_job(work: Work, runner: Runner, report: Callable[[Reported], None]) -> Finished:
    """Run a job on any runner."""
    definition = work.definition
    context = Context(definition, {sha: Path(work.blobs[sha]).read_bytes() for sha in _code_blobs(definition)})
    try:
        summary = runner.prepare(context, work.blobs)
    except JobFailed as error:
        return _refused(error)
    return Engine(plan(definition), runner, report, Path(work.scratch), work.attempt).run(summary)


def _refused(error: JobFailed) -> Finished:
    return Finished(succeeded=False, reason=error.reason, message=error.message)


def _code_blobs(definition: JobDefinition) -> frozenset[str]:
    """What nodes, axes, scorers and splitters refer to; staged rows and folds stay on the head's disk."""
    inputs = {name: given for name, given in definition.inputs.items() if not isinstance(given, Blob)}
    cv = None if isinstance(definition.cv, Splits) else definition.cv
    return definition.model_copy(update={"inputs": inputs, "cv": cv}).blobs()


if __name__ == "__main__":
    sys.exit(main())
