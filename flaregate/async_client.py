"""The awaiting client: the same names as flaregate.client, over the same requests, answers and decisions."""

import asyncio
import inspect
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from flaregate import flows
from flaregate.axes import Axes, OwnAxes
from flaregate.client import checked_url, warm_seconds
from flaregate.downloads import decoded, downloading, into, named
from flaregate.embedded import Opened, open_gateway
from flaregate.endings import raise_for, warn_once
from flaregate.outcomes import Outcome, Result, outcome_of, result_of
from flaregate.requirements import locked
from flaregate.settings import from_environment
from flaregate.subjects import fitted_of
from flaregate.submission import JobOptions, Submission, prepare, refuse
from flaregate.transport.links import AsyncLink
from flaregate.transport.streams import Following, LogFollowing
from flaregate.uploads import progress
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.events import Event, OutcomeEvent
from flaregate_wire.jobs import ArtifactView, JobView, PlanView, Usage
from flaregate_wire.states import State


class AsyncJob:
    """A job at a gateway; flaregate.client.Job says what each method gives."""

    def __init__(self, link: AsyncLink, job_id: str, own: OwnAxes | None = None) -> None:
        self.id = job_id
        self._link = link
        self._own = own or {}
        self._warned = False

    async def view(self) -> JobView:
        """All that the gateway shows of it."""
        return await self._link.run(flows.viewing(self.id))

    async def wait(self, timeout: float | None = None) -> JobView:  # noqa: ASYNC109 - the blocking client's name
        """Wait until it has ended, however it ended; raises TimeoutError after `timeout` seconds."""
        return await self._link.run(flows.waiting(self.id, timeout))

    async def cancel(self) -> JobView:
        """Wish it cancelled, in whatever state it is."""
        return await self._link.run(flows.cancelling(self.id))

    def events(self, after: int = 0) -> AsyncIterator[Event]:
        """Its events from the first, or after an id, until it ends; over any number of cuts."""
        return self._link.follow(Following(self.id, last=after))

    async def outcomes(self) -> AsyncIterator[Outcome]:
        """Its outcomes in order of arrival, while they are made."""
        definition = (await self.view()).definition
        async for event in self.events():
            if isinstance(event, OutcomeEvent):
                yield outcome_of(event, definition, self._own, self)

    def logs(self, *, follow: bool = False, tail: int | None = None, cell: int | None = None) -> AsyncIterator[str]:
        """The lines that its code has printed, or one cell of a sweep; with `follow` until it ends."""
        return self._link.lines(LogFollowing(self.id, follow=follow, tail=tail, cell=cell))

    async def result(self, timeout: float | None = None) -> Result:  # noqa: ASYNC109
        """Wait, then give what it made; raises JobFailed, JobCancelled, JobTimedOut, CostCapReached."""
        view = await self.wait(timeout)
        events = await self._link.run(flows.collecting(self.id))
        names = [artifact.name for artifact in await self.artifacts()]
        result = result_of(view, events, self._own, self, names)
        for outcome in result.outcomes:
            if inspect.isawaitable(outcome.output):
                outcome.held["output"] = await outcome.output
        raise_for(view, result, self)
        if not self._warned:
            self._warned = True
            warn_once(result)
        return result

    async def usage(self) -> Usage:
        """What it has used."""
        return (await self.view()).usage

    async def artifacts(self) -> list[ArtifactView]:
        """What it left in the store."""
        return await self._link.run(flows.artifacts_of(self.id))

    async def download(self, name: str, path: str | Path) -> Path:
        """Write an artifact to a file, which is there when all of it has come and its sum is right."""
        target, artifact = Path(path), named(await self.artifacts(), name, self.id)
        with into(target, artifact) as part:
            await self._link.run(downloading(self.id, artifact, part))
        return target

    async def pipeline(self, name: str | None = None) -> Any:
        """A fitted pipeline that it left: the one of this name, else the best, or the only one."""
        from flaregate.fitted import load  # noqa: PLC0415 - needs scikit-learn

        name = name or fitted_of(await self.artifacts(), self.id).name
        with tempfile.TemporaryDirectory(prefix="flaregate-") as folder:
            path = await self.download(name, Path(folder) / "pipeline.zip")
            return await asyncio.to_thread(load, path, trust=True)

    async def load(self, name: str) -> Any:
        """An output or object that it left, decoded. Its code runs here: the job is one of our own."""
        with tempfile.TemporaryDirectory(prefix="flaregate-") as folder:
            path = await self.download(name, Path(folder) / "object")
            return await asyncio.to_thread(decoded, named(await self.artifacts(), name, self.id), path)

    def __repr__(self) -> str:
        return f"<AsyncJob {self.id}>"


class AsyncClient:
    """A connection to a gateway; flaregate.client.Client says what each method gives. It is opened by `async with`."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        home: str | Path | None = None,
        warm: float | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Without a URL, here and in FLAREGATE_URL, the embedded gateway is opened when the block is entered."""
        settings = from_environment()
        self._warm = warm
        self._home = Path(home) if home else settings.home
        self._transport = transport
        self._opened: Opened | None = None
        address = url or settings.url
        self._link = (
            None if address is None else AsyncLink(checked_url(address), token or settings.token, transport=transport)
        )

    @property
    def link(self) -> AsyncLink:
        """The connection; raises RuntimeError before `async with` has opened it."""
        if self._link is None:
            raise RuntimeError("the client is not open; use 'async with AsyncClient() as client'")
        return self._link

    @property
    def url(self) -> str:
        """The gateway's address."""
        return self.link.url

    async def submit(self, pipe: Any, *, idempotency_key: str | None = None, **options: Any) -> AsyncJob:
        """Submit a job; flaregate.options.JobOptions lists the options."""
        return await self._submit(await self._prepared(pipe, options), idempotency_key)

    async def map(
        self,
        function: Any,
        X: Any,  # noqa: N803 - scikit-learn's name
        *,
        blocks: int | None = None,
        method: str | None = None,
        **options: Any,
    ) -> AsyncJob:
        """Call a function, or a `method` of something fitted, with blocks of the rows of X."""
        return await self.submit(function, action="map", X=X, blocks=blocks, method=method, **options)

    async def sweep(self, function: Any, *, axes: Axes, best: str | None = None, **options: Any) -> AsyncJob:
        """Call a function with every combination of its arguments."""
        return await self.submit(function, action="sweep", axes=axes, best=best, **options)

    async def submit_definition(self, definition: JobDefinition, *, idempotency_key: str | None = None) -> AsyncJob:
        """Submit a definition that needs nothing to be staged."""
        refuse(definition)
        return await self._submit(Submission(definition), idempotency_key)

    async def send(self, submission: Submission) -> AsyncJob:
        """Submit what is prepared already."""
        return await self._submit(submission, None)

    async def _submit(self, submission: Submission, key: str | None) -> AsyncJob:
        embedded = self._opened is not None and self._opened.embedded
        submission = submission.warmed(warm_seconds(self._warm, embedded=embedded))
        with progress(submission.blobs) as sent:
            view = await self.link.run(flows.submitting(submission.definition, submission.blobs, key, sent))
        return AsyncJob(self.link, view.id, submission.own)

    async def plan(self, pipe: Any, **options: Any) -> PlanView:
        """What the job would do."""
        return await self.plan_definition((await self._prepared(pipe, options)).definition)

    async def plan_definition(self, definition: JobDefinition) -> PlanView:
        """The same for a definition."""
        return await self.link.run(flows.planning(definition))

    async def _prepared(self, pipe: Any, options: dict[str, Any]) -> Submission:
        if isinstance(pipe, AsyncJob):
            pipe = fitted_of(await pipe.artifacts(), pipe.id)
        given = options.get("requirements")
        if given is not None:
            environment = await self.link.run(flows.asking_environment())
            options = options | {"requirements": await asyncio.to_thread(locked, given, environment)}
        return await asyncio.to_thread(prepare, pipe, JobOptions(**options))

    async def jobs(self, *, state: State | None = None, label: str | None = None, limit: int = 100) -> list[JobView]:
        """The newest jobs."""
        return await self.link.run(flows.listing(state, label, limit))

    async def job(self, job_id: str) -> AsyncJob:
        """A job by its id; raises Refused if there is none."""
        return AsyncJob(self.link, (await self.link.run(flows.viewing(job_id))).id)

    async def close(self) -> None:
        """Close the connections; an embedded gateway ends when nobody else holds it open."""
        if self._link is not None:
            await self._link.close()
        opened, self._opened = self._opened, None
        if opened is not None:
            await asyncio.to_thread(opened.close)

    async def __aenter__(self) -> Self:
        if self._link is None:
            self._opened = await asyncio.to_thread(
                open_gateway, self._home, spare=warm_seconds(self._warm, embedded=True)
            )
            self._link = AsyncLink(self._opened.url, self._opened.token, transport=self._transport)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
