"""Jobs run by the engine without a gateway: in this process for unit tests, on any Runner for the conformance suite."""

from collections.abc import Callable, Sequence
from pathlib import Path

from flaregate.submission import Submission
from flaregate.testing import Left, Ran, RunJob
from flaregate.testing.ran import CLUSTER
from flaregate_wire.events import Reported
from worker_image.engine.runner import Runner, SequentialRunner
from worker_image.job import run_job
from worker_image.work import LocalArtifact, Work


def jobs_on(runner: Callable[[], Runner]) -> RunJob:
    """What runs jobs on the runner that is given for each; that may be the same one every time."""

    def run(submission: Submission, folder: Path) -> Ran:
        events: list[Reported] = []
        left: list[LocalArtifact] = []

        def report(event: Reported, files: Sequence[LocalArtifact] = ()) -> None:
            events.append(event)
            left.extend(files)

        ended = run_job(_work(submission, folder), runner(), report)
        artifacts = {one.name: Left(Path(one.path), one.media_type) for one in (*left, *ended.artifacts)}
        return Ran(submission, ended.succeeded, events, ended.reason, ended.message, ended.result, artifacts)

    return run


def _work(submission: Submission, folder: Path) -> Work:
    staged, scratch = folder / "staged", folder / "scratch"
    staged.mkdir(parents=True)
    scratch.mkdir()
    paths = {}
    for sha256, item in submission.blobs.items():
        path = staged / sha256.replace(":", "-")
        path.write_bytes(item.read())
        paths[sha256] = str(path)
    return Work(definition=submission.definition, cluster=CLUSTER, attempt=1, blobs=paths, scratch=str(scratch))


in_process = jobs_on(SequentialRunner)
"""Runs a job in this process, task after task: for InProcessClient."""
