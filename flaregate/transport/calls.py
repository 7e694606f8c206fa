"""Every request that the SDK makes, as data. Nothing is sent here."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

from flaregate.payload import Staged
from flaregate.sums import cut
from flaregate_wire.blobs import BlobOffer, Transfer
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.states import State

JSON = {"Content-Type": "application/json"}
LONG_POLL = 25
"""Seconds that the gateway is asked to hold a request open."""
_PIECE = 1024 * 1024
_PUTTING_TOGETHER = 300
"""Seconds that a store may need to make one object of thousands of parts."""

Params = Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Body:
    """Some or all bytes of something, to be sent in pieces; they may be sent again after a fault."""

    item: Staged
    start: int
    stop: int
    sent: Callable[[int], None]
    """Told how many bytes have gone, from 0 again when they are sent again."""

    @property
    def size(self) -> int:
        """How many bytes."""
        return self.stop - self.start

    def __iter__(self) -> Iterator[bytes]:
        done = 0
        self.sent(done)
        for piece in cut(self.item.chunks, self.start, self.stop, _PIECE):
            yield bytes(piece)
            done += piece.nbytes
            self.sent(done)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The same for an asynchronous client."""
        for piece in self:
            yield piece


@dataclass(frozen=True, slots=True)
class Call:
    """One request. Every one may be repeated: nothing happens twice."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    """Below the gateway's address; a whole URL where it is presigned."""
    params: Params = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | Body | None = None
    presigned: bool = False
    """Sent without our token."""
    seconds: float = 60
    """How long nothing may come before it counts as lost."""


def submit(definition: JobDefinition, key: str) -> Call:
    """Submit a job; the same key gives the same job."""
    return Call("POST", "/v1/jobs", headers={**JSON, "Idempotency-Key": key}, content=_body(definition))


def environment() -> Call:
    """What the workers have."""
    return Call("GET", "/v1/environment")


def prices() -> Call:
    """What the platform asks for a container."""
    return Call("GET", "/v1/prices")


def plan(definition: JobDefinition) -> Call:
    """What the job would do."""
    return Call("POST", "/v1/jobs:plan", headers=JSON, content=_body(definition))


def _body(definition: JobDefinition) -> bytes:
    return definition.model_dump_json(by_alias=True, exclude_none=True).encode()


def job(job_id: str) -> Call:
    """The job as it is."""
    return Call("GET", f"/v1/jobs/{job_id}")


def job_when_done(job_id: str, seconds: float = LONG_POLL) -> Call:
    """The job when it has ended, or after some seconds as it is."""
    return Call("GET", f"/v1/jobs/{job_id}", {"wait": seconds, "until": "done"})


def jobs(state: State | None, label: str | None, limit: int, cursor: str | None) -> Call:
    """A page of jobs, newest first."""
    params: dict[str, str | int | float] = {"limit": limit}
    given = {"state": state, "label": label, "cursor": cursor}
    return Call("GET", "/v1/jobs", params | {name: str(value) for name, value in given.items() if value is not None})


def cancel(job_id: str) -> Call:
    """Wish the job cancelled."""
    return Call("POST", f"/v1/jobs/{job_id}/cancel", headers=JSON, content=b"{}")


def forget(job_id: str) -> Call:
    """Remove from the cache what a job made."""
    return Call("DELETE", "/v1/cache", {"job": job_id})


def results(job_id: str, media_type: str = "application/x-ndjson", group_by: str | None = None) -> Call:
    """The outcomes: those that there are, one JSON document a line; or of a job that has ended a table."""
    params = {} if group_by is None else {"group_by": group_by}
    return Call("GET", f"/v1/jobs/{job_id}/results", params, {"Accept": media_type})


def collect_garbage(*, dry_run: bool) -> Call:
    """Remove what is not needed any more, or say what it is."""
    return Call("POST", "/v1/gc", {"dry_run": str(dry_run).lower()}, JSON, b"{}")


def artifacts(job_id: str) -> Call:
    """What the job left in the store."""
    return Call("GET", f"/v1/jobs/{job_id}/artifacts")


def fetch(url: str, span: tuple[int, int] | None) -> Call:
    """The bytes of an object in the store, or those from a place up to another."""
    headers = {} if span is None else {"Range": f"bytes={span[0]}-{span[1] - 1}"}
    return Call("GET", url, headers=headers, presigned=True)


def artifact(job_id: str, name: str) -> Call:
    """Where the bytes of one artifact are: the answer is a redirect, which is not followed with our token."""
    return Call("GET", f"/v1/jobs/{job_id}/artifacts/{quote(name, safe='')}", headers={"Accept": "*/*"})


def offer(item: Staged) -> Call:
    """Ask whether a blob is there already."""
    offered = BlobOffer(sha256=item.sha256, size=item.size, media_type=item.media_type, parts=item.parts)
    return Call("POST", "/v1/blobs", headers=JSON, content=offered.model_dump_json().encode())


def upload(transfer: Transfer, body: Body) -> Call:
    """Send a blob, or a part of it, where the gateway said."""
    headers = {**transfer.headers, "Content-Length": str(body.size)}
    method: Literal["PUT", "POST"] = "POST" if transfer.method == "POST" else "PUT"
    return Call(method, transfer.url, headers=headers, content=body, presigned=True)


def complete(sha256: str) -> Call:
    """Say that all of a blob has been sent."""
    return Call("POST", f"/v1/blobs/{sha256}:complete", headers=JSON, content=b"{}", seconds=_PUTTING_TOGETHER)
