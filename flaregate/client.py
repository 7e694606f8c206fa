"""The blocking client: a thin shell around requests, answers and decisions that are made elsewhere."""

import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from flaregate import flows
from flaregate.axes import Axes, OwnAxes
from flaregate.downloads import decoded, downloading, into, named
from flaregate.embedded import Opened, open_gateway
from flaregate.endings import raise_for, warn_once
from flaregate.errors import Refused
from flaregate.interrupts import decide
from flaregate.outcomes import Outcome, Result, outcome_of, result_of
from flaregate.requirements import locked
from flaregate.settings import from_environment
from flaregate.subjects import fitted_of
from flaregate.submission import JobOptions, Submission, prepare, refuse
from flaregate.transport.links import Link
from flaregate.transport.streams import Following, LogFollowing
from flaregate.uploads import progress
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.events import Event, OutcomeEvent
from flaregate_wire.jobs import ArtifactView, JobView, PlanView, Usage
from flaregate_wire.problems import Code
from flaregate_wire.states import State

EMBEDDED_WARM = 300.0
"""Seconds that heads wait for the next job of a client that keeps a gateway of its own open."""


class Job:
    """A job at a gateway. It may be asked from any process, by its id."""

    def __init__(self, client: "Client", job_id: str, own: OwnAxes | None = None) -> None:
        self.id = job_id
        self._client = client
        self._own = own or {}
        self._cancelled = False
        self._warned = False

    @property
    def state(self) -> State:
        """Where the job is now."""
        return self.view().state

    def view(self) -> JobView:
        """All that the gateway shows of it."""
        return self._link.run(flows.viewing(self.id))

    def wait(self, timeout: float | None = None) -> JobView:
        """Wait until it has ended, however it ended; raises TimeoutError after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                return self._link.run(flows.waiting(self.id, left))
            except KeyboardInterrupt:
                if self._cancelled:
                    raise
                if decide(self.id, may_detach=not self._client.embedded) == "detach":
                    raise
                self.cancel()

    def cancel(self) -> JobView:
        """Wish it cancelled, in whatever state it is."""
        self._cancelled = True
        return self._link.run(flows.cancelling(self.id))

    def events(self, after: int = 0) -> Iterator[Event]:
        """Its events from the first, or after an id, until it ends; over any number of cuts."""
        return self._link.follow(Following(self.id, last=after))

    def outcomes(self) -> Iterator[Outcome]:
        """Its outcomes in order of arrival, while they are made."""
        definition = self.view().definition
        for event in self.events():
            if isinstance(event, OutcomeEvent):
                yield outcome_of(event, definition, self._own, self)

    def logs(self, *, follow: bool = False, tail: int | None = None, cell: int | None = None) -> Iterator[str]:
        """The lines that its code has printed, or one cell of a sweep; with `follow` until it ends."""
        return self._link.lines(LogFollowing(self.id, follow=follow, tail=tail, cell=cell))

    def result(self, timeout: float | None = None) -> Result:
        """Wait, then give what it made.

        Raises:
            JobFailed: or JobCancelled, JobTimedOut, CostCapReached; each has the result so far.
            TimeoutError: It has not ended after `timeout` seconds; it goes on.
        """
        view = self.wait(timeout)
        events = self._link.run(flows.collecting(self.id))
        names = [artifact.name for artifact in self.artifacts()]
        result = result_of(view, events, self._own, self, names)
        raise_for(view, result, self)
        if not self._warned:
            self._warned = True
            warn_once(result)
        return result

    def usage(self) -> Usage:
        """What it has used."""
        return self.view().usage

    def artifacts(self) -> list[ArtifactView]:
        """What it left in the store."""
        return self._link.run(flows.artifacts_of(self.id))

    def download(self, name: str, path: str | Path) -> Path:
        """Write an artifact to a file, which is there when all of it has come and its sum is right.

        What an interrupted try has left beside it is gone on with. The bytes come straight from the store.
        """
        target, artifact = Path(path), named(self.artifacts(), name, self.id)
        with into(target, artifact) as part:
            self._link.run(downloading(self.id, artifact, part))
        return target

    def pipeline(self, name: str | None = None) -> Any:
        """A fitted pipeline that it left: the one of this name, else the best, or the only one.

        Its code runs here: the job is one of our own.
        """
        from flaregate.fitted import load  # noqa: PLC0415 - needs scikit-learn

        name = name or fitted_of(self.artifacts(), self.id).name
        with tempfile.TemporaryDirectory(prefix="flaregate-") as folder:
            return load(self.download(name, Path(folder) / "pipeline.zip"), trust=True)

    def load(self, name: str) -> Any:
        """An output or object that it left, decoded. Its code runs here: the job is one of our own."""
        with tempfile.TemporaryDirectory(prefix="flaregate-") as folder:
            path = self.download(name, Path(folder) / "object")
            return decoded(named(self.artifacts(), name, self.id), path)

    @property
    def _link(self) -> Link:
        return self._client.link

    def __repr__(self) -> str:
        return f"<Job {self.id}>"


class Client:
    """A connection to a gateway: the one at `url`, at FLAREGATE_URL, or the embedded one, started if need be."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        embedded: bool | None = None,
        home: str | Path | None = None,
        warm: float | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Open it.

        Args:
            url: Address of the gateway.
            token: Bearer token for it; by default FLAREGATE_TOKEN.
            embedded: False never starts a gateway on this machine, but uses one that `flaregate up` keeps.
            home: Folder of the embedded gateway; by default FLAREGATE_HOME.
            warm: Seconds that the head of a job may wait for the next one; by default 300 at an embedded gateway, whose
                heads end when the last client is closed, and none where seconds cost money.
            transport: What carries the requests instead of the network.
        """
        settings = from_environment()
        self._warm = warm
        self._opened: Opened | None = None
        address = url or settings.url
        if address is None or embedded:
            self._opened = open_gateway(
                Path(home) if home else settings.home,
                start=embedded is not False,
                spare=warm_seconds(warm, embedded=True),
            )
            self.link = Link(self._opened.url, self._opened.token, transport=transport)
        else:
            self.link = Link(checked_url(address), token or settings.token, transport=transport)

    @property
    def url(self) -> str:
        """The gateway's address."""
        return self.link.url

    @property
    def embedded(self) -> bool:
        """Whether the gateway ends with the programs that opened it."""
        return self._opened is not None and self._opened.embedded

    def submit(self, pipe: Any, *, idempotency_key: str | None = None, **options: Any) -> Job:
        """Submit a job; flaregate.options.JobOptions lists the options.

        Args:
            pipe: A Pipeline; for `predict`, `predict_proba`, `transform` and `score` something fitted: an Outcome, a
                Job, a reference, or an estimator that is fitted here.
            idempotency_key: The same key gives the same job, once.
            **options: What is done, with which data, and what it may use.

        Raises Refused before anything is sent where a rule is broken; the message names node and parameter.
        """
        return self._submit(self._prepared(pipe, options), idempotency_key)

    def map(
        self,
        function: Any,
        X: Any,  # noqa: N803 - scikit-learn's name
        *,
        blocks: int | None = None,
        method: str | None = None,
        **options: Any,
    ) -> Job:
        """Call a function, or a `method` of something fitted, with blocks of the rows of X; `result().outputs` has all.

        Args:
            function: A function of one block of rows; or something fitted, as in `submit`.
            X: Rows, or a list of items.
            blocks: How many blocks, cut as numpy.array_split cuts; None adapts their size.
            method: Which method of a fitted pipeline.
            **options: As in `submit`.
        """
        return self.submit(function, action="map", X=X, blocks=blocks, method=method, **options)

    def sweep(self, function: Any, *, axes: Axes, best: str | None = None, **options: Any) -> Job:
        """Call a function with every combination of its arguments; `result().table(group_by=…)` has mean and std.

        Args:
            function: Called with a value of each axis by name; or a Pipeline of functions.
            axes: From an argument's name to a list of values.
            best: The metric that chooses, `max:accuracy` or `min:loss`.
            **options: As in `submit`.
        """
        return self.submit(function, action="sweep", axes=axes, best=best, **options)

    def submit_definition(self, definition: JobDefinition, *, idempotency_key: str | None = None) -> Job:
        """Submit a definition that needs nothing to be staged."""
        refuse(definition)
        return self._submit(Submission(definition), idempotency_key)

    def send(self, submission: Submission) -> Job:
        """Submit what is prepared already."""
        return self._submit(submission, None)

    def _submit(self, submission: Submission, key: str | None) -> Job:
        submission = submission.warmed(warm_seconds(self._warm, embedded=self.embedded))
        with progress(submission.blobs) as sent:
            view = self.link.run(flows.submitting(submission.definition, submission.blobs, key, sent))
        return Job(self, view.id, submission.own)

    def plan(self, pipe: Any, **options: Any) -> PlanView:
        """What the job would do: candidates, folds, tasks before and after sharing. Nothing is run or staged.

        It takes what `submit` takes; `action="map"` and `action="sweep"` plan these.
        """
        return self.plan_definition(self._prepared(pipe, options).definition)

    def plan_definition(self, definition: JobDefinition) -> PlanView:
        """The same for a definition."""
        return self.link.run(flows.planning(definition))

    def _prepared(self, pipe: Any, options: dict[str, Any]) -> Submission:
        if isinstance(pipe, Job):
            pipe = fitted_of(pipe.artifacts(), pipe.id)
        given = options.get("requirements")
        if given is not None:
            options = options | {"requirements": locked(given, self.link.run(flows.asking_environment()))}
        return prepare(pipe, JobOptions(**options))

    def jobs(self, *, state: State | None = None, label: str | None = None, limit: int = 100) -> list[JobView]:
        """The newest jobs."""
        return self.link.run(flows.listing(state, label, limit))

    def job(self, job_id: str) -> Job:
        """A job by its id; raises Refused if there is none."""
        return Job(self, self.link.run(flows.viewing(job_id)).id)

    def close(self) -> None:
        """Close the connections; an embedded gateway ends, with its jobs, when nobody else holds it open."""
        self.link.close()
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_opened", None) is not None:
            warnings.warn("a Client was not closed; use 'with Client() as client'", ResourceWarning, stacklevel=1)

    def __deepcopy__(self, memo: object) -> Self:
        """Itself: a connection has no copy."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Its address without the token; an embedded gateway is opened anew where it is loaded."""
        return type(self), (None if self._opened is not None else self.url,)

    def __repr__(self) -> str:
        return f"<Client {self.url}>"


def warm_seconds(given: float | None, *, embedded: bool) -> float:
    """How long heads may wait for the next job."""
    return given if given is not None else EMBEDDED_WARM if embedded else 0.0


def checked_url(url: str) -> str:
    """The address of a gateway; raises Refused for what is none."""
    if httpx.URL(url).scheme not in ("http", "https"):
        raise Refused(f"{url!r} is no address of a gateway: http://… or https://…", code=Code.INVALID_REQUEST)
    return url
