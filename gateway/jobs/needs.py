"""What keeps staged bytes: rows from each job to the blobs that it refers to, written with the job and gone with it.

Whoever takes a blob's row away has it locked, and so has, for sharing, whoever refers to it: where a submission and a
sweep meet, one of them comes first, and the other sees what it did.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, exists, insert, select, update

from flaregate_wire.model import rfc3339
from flaregate_wire.problems import Fault
from gateway.jobs import tables as t
from gateway.jobs.blob_index import adopt
from gateway.jobs.errors import BlobMissing
from gateway.jobs.records import Blob, JobRecord

AT_ONCE = 500
"""Values in one statement."""


@dataclass(frozen=True, slots=True)
class Left:
    """An artifact of an earlier job that serves as an input, as the blob that it becomes."""

    job: str
    name: str
    blob: Blob


@dataclass(frozen=True, slots=True)
class Needs:
    """What a definition refers to."""

    blobs: frozenset[str] = frozenset()
    """All of them, artifacts too, by sum."""
    artifacts: tuple[Left, ...] = ()


NOTHING = Needs()


def parts(values: Collection[str]) -> Iterator[Sequence[str]]:
    """As many at once as one statement takes, in order, so that two who lock them do not wait for each other."""
    listed = sorted(values)
    return (listed[start : start + AT_ONCE] for start in range(0, len(listed), AT_ONCE))


def refer(connection: Connection, job: JobRecord, needs: Needs) -> None:
    """Note what a new job refers to. Raises BlobMissing with everything that is not there whole."""
    gone = [left for left in needs.artifacts if not _take(connection, left)]
    missing = {f"job:{left.job}/{left.name}": "has been removed" for left in gone}
    c = t.blobs.c
    known: set[str] = set()
    for part in parts(needs.blobs):
        query = select(c.sha256).where(c.tenant == job.tenant, c.sha256.in_(part), c.complete.is_(True))
        locked = query.order_by(c.sha256).with_for_update(read=True, key_share=True)
        known.update(connection.execute(locked).scalars())
        named = update(t.blobs).where(c.tenant == job.tenant, c.sha256.in_(part), c.used < rfc3339(job.created))
        connection.execute(named.values(used=rfc3339(job.created)))
    missing |= dict.fromkeys(sorted(needs.blobs - known - {left.blob.sha256 for left in gone}), "is not staged")
    if missing:
        faults = tuple(Fault(pointer="", rule="blob", message=f"{name} {why}") for name, why in missing.items())
        told = ", ".join(fault.message for fault in faults)
        raise BlobMissing(f"{told}; stage what is missing with POST /v1/blobs first", faults)
    rows = [{"job": job.id, "sha256": sha256, "tenant": job.tenant} for sha256 in sorted(known)]
    if rows:
        connection.execute(insert(t.job_blobs), rows)


def _take(connection: Connection, left: Left) -> bool:
    """Make an artifact known by its sum, if it is still there."""
    c = t.artifacts.c
    where = (c.job == left.job, c.name == left.name, c.key == left.blob.key)
    if connection.execute(select(c.key).where(*where).with_for_update(read=True, key_share=True)).first() is None:
        return False
    adopt(connection, left.blob)
    return True


def forget(connection: Connection, job: str) -> tuple[str, ...] | None:
    """Take a job out that has ended, and the blobs that only it kept: artifacts, its own or of jobs that are gone.

    Gives the keys of these blobs; None for a job that is not there, or not over. What was sent may serve the next job:
    it goes when nobody has named it for a while.
    """
    c, refers = t.blobs.c, t.job_blobs.c
    own = connection.execute(select(t.artifacts.c.key).where(t.artifacts.c.job == job)).scalars().all()
    sums = connection.execute(select(refers.sha256).where(refers.job == job)).scalars().all()
    ended = delete(t.jobs).where(t.jobs.c.id == job, t.jobs.c.active.is_(False)).returning(t.jobs.c.tenant)
    tenant = connection.execute(ended).scalar()
    if tenant is None:
        return None
    gone: list[Blob] = []
    for column, values in ((c.key, own), (c.sha256, sums)):
        for part in parts(values):
            left = (c.tenant == tenant, column.in_(part), c.key.like("tenants/%/jobs/%"), _no_artifact(c.key))
            gone += drop(connection, *left)
    return tuple(blob.key for blob in gone)


def _no_artifact(key: ColumnElement[str]) -> ColumnElement[bool]:
    return ~exists().where(t.artifacts.c.key == key)


def free() -> ColumnElement[bool]:
    """No job refers to the blob."""
    c, refers = t.blobs.c, t.job_blobs.c
    return ~exists().where(refers.tenant == c.tenant, refers.sha256 == c.sha256)


def drop(connection: Connection, *where: ColumnElement[bool], limit: int | None = None) -> list[Blob]:
    """Take out blobs that no job refers to; gives them. Those that others are just locking stay."""
    c = t.blobs.c
    query = select(t.blobs).where(free(), *where).order_by(c.tenant, c.sha256).limit(limit)
    locked = connection.execute(query.with_for_update(skip_locked=True, of=t.blobs)).all()
    gone = []
    for blob in (Blob(*row) for row in locked):
        same = (c.tenant == blob.tenant, c.sha256 == blob.sha256)
        if connection.execute(delete(t.blobs).where(*same, free())).rowcount:  # unless a job came before the lock
            gone.append(blob)
    return gone
