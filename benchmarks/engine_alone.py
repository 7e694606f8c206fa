"""The engine without gateway, containers and cache: a job on a runner in this process."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import flaregate as fg
from flaregate.options import JobOptions
from flaregate.outcomes import Outcome, outcome_of
from flaregate.submission import prepare
from flaregate_wire.events import OutcomeEvent, Reported
from flaregate_wire.jobs import Cluster, Result
from worker_image.engine.runner import Runner
from worker_image.job import run_job
from worker_image.work import LocalArtifact, Work

CLUSTER = Cluster(topology="single", workers=0, min_workers=0, cpus=2, memory=2_000_000_000, why="a benchmark")


@dataclass
class Run:
    """What a job gave."""

    outcomes: list[Outcome] = field(default_factory=list)
    result: Result | None = None
    first_task: float = 0.0
    """Seconds from the call to the first task: what preparing took."""


def run_engine(pipe: fg.Pipeline, given: Mapping[str, Any], runner: Runner, *, keep: bool = True) -> Run:
    """Run a job to its end; without `keep` its outcomes are counted and dropped, as a driver does with them."""
    submission = prepare(pipe, JobOptions(**given))
    run = Run()
    start = time.perf_counter()

    def report(event: Reported, files: Sequence[LocalArtifact] = ()) -> None:  # noqa: ARG001 - nobody reads them
        if event.type == "attempt" and event.phase == "first_task":
            run.first_task = time.perf_counter() - start
        if keep and isinstance(event, OutcomeEvent):
            run.outcomes.append(outcome_of(event, submission.definition, submission.own, None))

    with TemporaryDirectory(prefix="flaregate-bench-") as folder:
        blobs = {}
        for sha, item in submission.blobs.items():
            path = Path(folder) / sha.removeprefix("sha256:")
            path.write_bytes(item.read())
            blobs[sha] = str(path)
        work = Work(definition=submission.definition, cluster=CLUSTER, attempt=1, blobs=blobs, scratch=folder)
        finished = run_job(work, runner, report)
    if not finished.succeeded:
        raise AssertionError(finished.message)
    run.result = finished.result
    return run
