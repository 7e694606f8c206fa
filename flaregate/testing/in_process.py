"""A client without a gateway: jobs run where they are submitted, one after the other. For unit tests of pipelines.

It takes the way to run a job as an argument, because the SDK knows no engine:

    from flaregate.testing import InProcessClient
    from worker_image.in_process import in_process

    with InProcessClient(in_process) as client:
        assert client.submit(pipe, X=X, y=y, action="cross_validate").result().best.mean > 0.9
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from flaregate.endings import raise_for, warn_once
from flaregate.fitted_file import MEDIA_TYPE
from flaregate.outcomes import Outcome, Result
from flaregate.payload import staged
from flaregate.submission import JobOptions, Submission, prepare
from flaregate.testing.ran import CLUSTER, Left, Ran, RunJob
from flaregate_wire.definitions import Artifact, Blob, ModelNode
from flaregate_wire.events import Reported
from flaregate_wire.jobs import JobView, PlanView
from flaregate_wire.planning import plan
from flaregate_wire.states import State


class InProcessJob:
    """A job that has ended when it is there; the rest is as of flaregate.Job."""

    def __init__(self, ran: Ran) -> None:
        self.ran = ran
        self.id = ran.id

    @property
    def state(self) -> State:
        """How it ended."""
        return self.ran.view.state

    def view(self) -> JobView:
        """What a gateway would show of it."""
        return self.ran.view

    def wait(self, timeout: float | None = None) -> JobView:
        """It has ended."""
        return self.ran.view

    def events(self) -> Sequence[Reported]:
        """What its engine reported."""
        return self.ran.events

    def outcomes(self) -> Iterator[Outcome]:
        """In candidate order."""
        return iter(self.ran.outcomes)

    def result(self, timeout: float | None = None) -> Result:
        """What it made; raises JobFailed where all of it failed, and gives the warnings of its tasks."""
        result = self.ran.result
        raise_for(self.ran.view, result, self)
        warn_once(result)
        return result

    def pipeline(self, name: str | None = None) -> Any:
        """A fitted pipeline that it left."""
        return self.ran.pipeline(name)

    def load(self, name: str) -> Any:
        """An object that it left."""
        return self.ran.load(name)


class InProcessClient:
    """Runs each job when it is submitted, in a folder that lives as long as the client."""

    def __init__(self, run: RunJob) -> None:
        self._run = run
        self._folder = TemporaryDirectory(prefix="flaregate-")
        self._left: dict[str, Left] = {}
        self._count = 0

    def submit(self, subject: Any, **options: Any) -> InProcessJob:
        """Run a pipeline, with the options of flaregate.Client.submit; raises Refused as that does."""
        return self.send(prepare(subject, JobOptions(**options)))

    def send(self, submission: Submission) -> InProcessJob:
        """Run what is prepared already."""
        submission = self._with_models(submission)
        self._count += 1
        job = f"in-process-{self._count}"
        folder = Path(self._folder.name) / job
        folder.mkdir()
        ran = replace(self._run(submission, folder), id=job)
        self._left |= {f"job:{job}/{name}": left for name, left in ran.artifacts.items()}
        return InProcessJob(ran)

    def map(self, subject: Any, X: Any, **options: Any) -> InProcessJob:
        """Call a function, or a method of a fitted pipeline, with blocks of rows."""
        return self.submit(subject, action="map", X=X, **options)

    def sweep(self, subject: Any, axes: Any, **options: Any) -> InProcessJob:
        """Call a function with every combination of the axes' values."""
        return self.submit(subject, action="sweep", axes=axes, **options)

    def plan(self, subject: Any, **options: Any) -> PlanView:
        """What the job would do; nothing is run."""
        counts = plan(prepare(subject, JobOptions(**options)).definition).counts()
        return PlanView(
            candidates=counts.candidates,
            folds=counts.folds,
            tasks=counts.tasks,
            tasks_unshared=None,
            steps=counts.steps,
            cluster=CLUSTER,
        )

    def _with_models(self, submission: Submission) -> Submission:
        """With the files of fitted pipelines that earlier jobs left, as a gateway finds them."""
        (node, *_) = submission.definition.pipeline.nodes
        if not isinstance(node, ModelNode) or not isinstance(node.source, Artifact):
            return submission
        item = staged(MEDIA_TYPE, self._left[node.source.artifact].path.read_bytes())
        source = Blob(blob=item.sha256, media_type=item.media_type, size=item.size)
        pipeline = submission.definition.pipeline.model_copy(
            update={"nodes": (node.model_copy(update={"source": source}),)}
        )
        definition = submission.definition.model_copy(update={"pipeline": pipeline})
        return replace(submission, definition=definition, blobs={**submission.blobs, item.sha256: item})

    def close(self) -> None:
        """Remove what its jobs left."""
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
