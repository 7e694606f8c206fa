"""What is staged, and what is on its way, in an SQL database: rows of blobs and of uploads in parts."""

from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, delete, exists, insert, select, update
from sqlalchemy.exc import IntegrityError

from flaregate_wire.model import rfc3339
from gateway.jobs import tables as t
from gateway.jobs.database import Database
from gateway.jobs.records import Blob, Upload

_AT_ONCE = 500
"""Values in one statement."""


class BlobIndex:
    """Each method is one transaction. What two gateways do at once ends as if one had come after the other."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def offer(self, blob: Blob) -> Blob:
        """Keep a place for a blob; gives what is kept, which may be an earlier offer's. It is used now."""

        def work(connection: Connection) -> Blob:
            connection.execute(update(t.blobs).where(*_same(blob)).values(used=blob.used))  # first: it locks
            return _find(connection, blob) or _insert(connection, blob)

        return await self._database.write(work)

    async def begin(self, blob: Blob, upload: str, parts: str) -> Blob:
        """Note an upload of a blob in the place of the one it had; gives what is kept: another one that was first."""
        c = t.blobs.c
        where = (*_same(blob), c.key == blob.key, c.complete.is_(False), _is(c.upload, blob.upload))

        def work(connection: Connection) -> Blob:
            connection.execute(update(t.blobs).where(*where).values(upload=upload, parts=parts))
            return _find(connection, blob) or blob

        return await self._database.write(work)

    async def complete(self, blob: Blob) -> str | None:
        """Make a blob known by its sum, if it is still at this key; gives an upload that has begun meanwhile."""
        where = (*_same(blob), t.blobs.c.key == blob.key)

        def work(connection: Connection) -> str | None:
            kept = _find(connection, blob)
            connection.execute(update(t.blobs).where(*where).values(complete=True, upload=None, parts=None))
            same = kept is None or kept.key != blob.key or kept.upload == blob.upload
            return None if same or kept is None else kept.upload

        return await self._database.write(work)

    async def unmap(self, blob: Blob, key: str) -> bool:
        """Take the bytes at its key from a blob, and give it another key for new ones.

        Gives whether nobody else needs the old ones: no other blob, no job's artifact.
        """
        c = t.blobs.c
        where = (*_same(blob), c.key == blob.key)
        others = (exists().where(c.key == blob.key), exists().where(t.artifacts.c.key == blob.key))

        def work(connection: Connection) -> bool:
            connection.execute(update(t.blobs).where(*where).values(complete=False, key=key, upload=None, parts=None))
            return not any(connection.execute(select(other)).scalar() for other in others)

        return await self._database.write(work)

    async def begun(self, tenant: str, upload: Upload, now: datetime) -> None:
        """Note an upload that an attempt has begun."""
        row = {"key": upload.key, "upload": upload.name, "tenant": tenant, "begun": rfc3339(now)}
        await self._database.write(lambda connection: connection.execute(insert(t.uploads), row))

    async def over(self, upload: Upload) -> None:
        """An attempt's upload is an object now, or was given up."""
        c = t.uploads.c
        query = delete(t.uploads).where(c.key == upload.key, c.upload == upload.name)
        await self._database.write(lambda connection: connection.execute(query))

    async def idle(self, before: datetime) -> tuple[list[Blob], list[Upload]]:
        """Blobs that are on their way in parts and were not offered since; uploads that attempts began before."""
        b, u, since = t.blobs.c, t.uploads.c, rfc3339(before)
        blobs = select(t.blobs).where(b.upload.is_not(None), b.complete.is_(False), b.used < since)
        uploads = select(u.key, u.upload).where(u.begun < since)

        def work(connection: Connection) -> tuple[list[Blob], list[Upload]]:
            found = [Blob(*tuple(row)) for row in connection.execute(blobs)]
            return found, [Upload(row.key, row.upload) for row in connection.execute(uploads)]

        return await self._database.read(work)

    async def forget_upload(self, blob: Blob) -> None:
        """The upload of a blob was given up."""
        where = (*_same(blob), t.blobs.c.upload == blob.upload)
        query = update(t.blobs).where(*where).values(upload=None, parts=None)
        await self._database.write(lambda connection: connection.execute(query))


def adopt(connection: Connection, blob: Blob) -> None:
    """Make bytes that are in the store known by their sum, as if they had been sent. A blob that is complete stays.

    An upload that they make needless is left to the sweep.
    """
    kept = _find(connection, blob) or _insert(connection, blob)
    known = {"used": blob.used}
    moved = {"complete": True, "key": blob.key, "upload": None, "parts": None}
    values = known if kept.complete else known | moved
    connection.execute(update(t.blobs).where(*_same(blob)).values(values))
    if kept.upload is not None and not kept.complete:
        row = {"key": kept.key, "upload": kept.upload, "tenant": kept.tenant, "begun": kept.used}
        connection.execute(insert(t.uploads), row)


def _same(blob: Blob) -> tuple[ColumnElement[bool], ...]:
    return (t.blobs.c.tenant == blob.tenant, t.blobs.c.sha256 == blob.sha256)


def _is(column: Column[Any], value: str | None) -> ColumnElement[bool]:
    return column.is_(None) if value is None else column == value


def _find(connection: Connection, blob: Blob) -> Blob | None:
    """The row, which nobody else changes until the end of the transaction."""
    row = connection.execute(select(t.blobs).where(*_same(blob)).with_for_update()).first()
    return None if row is None else Blob(*tuple(row))


def _insert(connection: Connection, blob: Blob) -> Blob:
    """Add the row; where another gateway has just done so, give that."""
    values = {column.name: getattr(blob, column.name) for column in t.blobs.columns}
    try:
        with connection.begin_nested():
            connection.execute(insert(t.blobs), values)
    except IntegrityError:
        return _find(connection, blob) or blob
    return blob
