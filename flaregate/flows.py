"""Operations of several requests, shared by the blocking and the awaiting client: generators of requests, no I/O."""

import time
import uuid
from collections.abc import Callable, Mapping

from pydantic import ValidationError

from flaregate.errors import GatewayUnavailable, Refused
from flaregate.payload import Staged
from flaregate.transport import calls, uploads
from flaregate.transport.answers import read
from flaregate.transport.links import Flow
from flaregate.transport.uploads import Sent
from flaregate_wire.blobs import BlobAnswer
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.events import EVENT, OutcomeEvent
from flaregate_wire.jobs import (
    ArtifactPage,
    ArtifactView,
    CacheRemoved,
    Garbage,
    GarbageReport,
    JobPage,
    JobView,
    PlanView,
    PriceView,
)
from flaregate_wire.states import State

Clock = Callable[[], float]
_PAGE = 200
_TRIES = 3
"""To send something of which nothing arrives."""


def submitting(definition: JobDefinition, blobs: Mapping[str, Staged], key: str | None, sent: Sent) -> Flow[JobView]:
    """Stage what is missing, then submit."""
    for item in blobs.values():
        yield from staging(item, sent)
    answer = yield calls.submit(definition, key or uuid.uuid4().hex)
    return read(JobView, answer)


def staging(item: Staged, sent: Sent) -> Flow[None]:
    """Ask for one blob, and send what is not there; ask anew, while that gets on, where a request was too old."""
    least, stuck, failed = item.size + 1, 0, None
    while True:
        answer = yield calls.offer(item)
        offered = read(BlobAnswer, answer)
        if offered.exists:
            break
        round_ = uploads.Round(item, offered, sent)
        stuck = 0 if round_.missing < least else stuck + 1
        if stuck > _TRIES:
            raise failed or GatewayUnavailable(f"the store does not keep what it is sent of {item.sha256}")
        least = round_.missing
        try:
            yield round_.calls()
            if round_.last:
                yield calls.complete(item.sha256)
                break
        except Refused as error:  # its time was over, or the store has forgotten the upload
            failed = error
    sent(item.sha256, item.size)


def asking_environment() -> Flow[dict[str, str]]:
    """What the workers have: versions by distribution, and `python`."""
    answer = yield calls.environment()
    return dict(answer.json())


def asking_prices() -> Flow[PriceView]:
    """Which launcher the gateway has, and what its platform asks for a container."""
    answer = yield calls.prices()
    return read(PriceView, answer)


def planning(definition: JobDefinition) -> Flow[PlanView]:
    """What the job would do."""
    answer = yield calls.plan(definition)
    return read(PlanView, answer)


def viewing(job_id: str) -> Flow[JobView]:
    """The job as it is."""
    answer = yield calls.job(job_id)
    return read(JobView, answer)


def cancelling(job_id: str) -> Flow[JobView]:
    """Wish the job cancelled."""
    answer = yield calls.cancel(job_id)
    return read(JobView, answer)


def forgetting(job_id: str) -> Flow[CacheRemoved]:
    """Remove from the cache what the attempts of a job made."""
    answer = yield calls.forget(job_id)
    return read(CacheRemoved, answer)


def collecting_garbage(*, dry_run: bool) -> Flow[GarbageReport]:
    """Remove all that is not needed any more, in as many requests as it takes; or say what it is."""
    kinds: dict[str, Garbage] = {}
    while True:
        answer = yield calls.collect_garbage(dry_run=dry_run)
        report = read(GarbageReport, answer)
        for found in report.found:
            had = kinds.get(found.kind, Garbage(kind=found.kind))
            kinds[found.kind] = Garbage(
                kind=found.kind,
                count=had.count + found.count,
                size=had.size + found.size,
                examples=(had.examples + found.examples)[: max(len(had.examples), len(found.examples))],
            )
        if report.whole or dry_run:
            return report.model_copy(update={"found": tuple(kinds.values())})


def waiting(job_id: str, timeout: float | None, clock: Clock = time.monotonic) -> Flow[JobView]:
    """The job when it has ended; raises TimeoutError if that takes longer than `timeout` seconds."""
    deadline = None if timeout is None else clock() + timeout
    while True:
        left = calls.LONG_POLL if deadline is None else max(0.0, min(calls.LONG_POLL, deadline - clock()))
        started = clock()
        answer = yield calls.job_when_done(job_id, left)
        view = read(JobView, answer)
        if view.state.terminal:
            return view
        if deadline is not None and clock() >= deadline:
            raise TimeoutError(f"{job_id} is {view.state} after {timeout:g} s")
        if clock() - started < min(1.0, left):  # the gateway did not hold the request
            yield 1.0


def listing(state: State | None, label: str | None, limit: int) -> Flow[list[JobView]]:
    """The newest jobs."""
    found: list[JobView] = []
    cursor: str | None = None
    while len(found) < limit:
        answer = yield calls.jobs(state, label, min(_PAGE, limit - len(found)), cursor)
        page = read(JobPage, answer)
        found.extend(page.jobs)
        cursor = page.next
        if cursor is None:
            break
    return found


def artifacts_of(job_id: str) -> Flow[list[ArtifactView]]:
    """What the job left."""
    answer = yield calls.artifacts(job_id)
    return list(read(ArtifactPage, answer).artifacts)


def collecting(job_id: str) -> Flow[list[OutcomeEvent]]:
    """All outcomes of a job that has ended; of what two attempts ran, the last."""
    answer = yield calls.results(job_id)
    try:
        events = [EVENT.validate_json(line) for line in answer.content.split(b"\n") if line.strip()]
    except ValidationError as error:
        raise GatewayUnavailable(f"the outcomes of {job_id} cannot be read: {error}", retryable=False) from error
    found = {(event.candidate, event.object): event for event in events if isinstance(event, OutcomeEvent)}
    return list(found.values())
