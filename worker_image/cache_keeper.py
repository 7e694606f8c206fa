"""Packs what is kept into segments and brings them into the store, in a thread of its own: a few requests a flush."""

import hashlib
import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from pydantic_core import PydanticSerializationError, to_json

from flaregate_wire.attempts import CacheKeep, CacheObject
from worker_image.cache_requests import Requests
from worker_image.gateway_link import AttemptOver, LinkError
from worker_image.transfers import StoreRefused

log = logging.getLogger(__name__)
FLUSH_SECONDS = (0.25, 5.0)
"""What waits to be kept is lost with the process: it waits this long at least and at most, and between the two for"""
FLUSH_SHARE = 0.02
"""of the time since the first entry, so that a long job makes few requests and loses little."""
FLUSH_BYTES = 4 * 1024 * 1024
FLUSH_FILES = 100
WAITING = 100_000
"""Entries that may wait; what comes then is not kept, which costs time later and nothing now."""
_PAIRS = 1000


@dataclass(frozen=True, slots=True)
class Kept:
    """An entry on its way."""

    shelf: str
    key: str
    report: bytes
    """As JSON."""
    file: Path | None
    """Our own link to a large result."""

    def line(self, blob: CacheObject | None) -> bytes:
        """Its line in a segment."""
        found = b'{"shelf":%s,"key":%s,"report":%s' % (to_json(self.shelf), to_json(self.key), self.report)
        return found + (b"}\n" if blob is None else b',"blob":%s}\n' % blob.model_dump_json().encode())


class Keeper:
    """Takes entries without blocking; a thread begins with the first one."""

    def __init__(self, requests: Requests, folder: Path, closing: float) -> None:
        self._requests = requests
        self._folder = folder
        self._closing = closing
        self._queue: queue.SimpleQueue[Kept | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._links = itertools.count()
        self._dropped = 0
        self._begun = time.monotonic()

    def keep(self, shelf: str, key: str, report: Mapping[str, JsonValue], file: Path | None) -> None:
        """Put an entry in the queue; the file is linked, so that it is there when its turn comes."""
        try:
            encoded = to_json(report, inf_nan_mode="constants")
        except PydanticSerializationError as error:
            raise ValueError(f"the report of {key!r} is not JSON: {error}") from error
        with self._lock:
            if self._closed or self._queue.qsize() >= WAITING:
                self._dropped += 1
                return
            link = None if file is None else self._folder / f"kept-{next(self._links)}"
            try:
                if file is not None and link is not None:
                    os.link(file, link)
            except OSError as error:
                self._dropped += 1
                log.warning("%s cannot be kept in the cache: %s", file, error)
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="cache", daemon=True)
                self._thread.start()
            self._queue.put(Kept(shelf, key, encoded, link))

    def close(self) -> None:
        """Flush; what is not in the store after some seconds is given up."""
        with self._lock:
            self._closed = True
            self._queue.put(None)
        if self._thread is not None:
            self._requests.deadline = time.monotonic() + self._closing
            self._thread.join(self._closing + 1)
        if self._dropped:
            log.warning("%d results were not kept in the cache", self._dropped)

    def _work(self) -> None:
        more = True
        while more:
            batch, more = self._gather()
            try:
                self._flush(batch)
            except AttemptOver:
                with self._lock:
                    self._closed = True
                more = False
            except (LinkError, StoreRefused) as error:
                self._dropped += len(batch)
                log.warning("%d results could not be kept in the cache: %s", len(batch), error)
            except Exception:  # whatever it is, the job goes on, and so does this thread
                self._dropped += len(batch)
                log.exception("%d results could not be kept in the cache", len(batch))
            for item in batch:
                if item.file is not None:
                    item.file.unlink(missing_ok=True)

    def _pause(self) -> float:
        least, most = FLUSH_SECONDS
        return min(most, max(least, FLUSH_SHARE * (time.monotonic() - self._begun)))

    def _gather(self) -> tuple[list[Kept], bool]:
        """What comes within some seconds of the first entry, or until it is enough; and whether more may come."""
        batch: list[Kept] = []
        size, files, end = 0, 0, float("inf")
        while size < FLUSH_BYTES and files < FLUSH_FILES:
            try:
                item = self._queue.get(timeout=None if end == float("inf") else max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            if item is None:
                return batch, False
            if not batch:
                end = time.monotonic() + self._pause()
            batch.append(item)
            size += len(item.report)
            files += item.file is not None
        return batch, True

    def _flush(self, batch: list[Kept]) -> None:
        """Files first, then the segment, then both are registered: what an entry refers to is always there."""
        lines: list[bytes] = []
        shelves: dict[str, None] = {}
        objects: dict[str, CacheObject] = {}
        for item in batch:
            blob = None
            if item.file is not None:
                blob = self._file(item.file)
                if blob is None:
                    continue
                objects[blob.key] = blob
            lines.append(item.line(blob))
            shelves[item.shelf] = None
        if lines:
            segment = self._bytes(b"".join(lines))
            self._register([(shelf, segment) for shelf in shelves], tuple(objects.values()))

    def _file(self, path: Path) -> CacheObject | None:
        """Write a large result; None where it is refused or cannot be read."""
        try:
            return self._requests.write_file(path)
        except (StoreRefused, OSError) as error:
            self._dropped += 1
            log.warning("a large result could not be kept in the cache: %s", error)
            return None

    def _bytes(self, data: bytes) -> CacheObject:
        sha256 = f"sha256:{hashlib.sha256(data).hexdigest()}"
        return self._requests.write(sha256, len(data), lambda: iter([data]))

    def _register(self, pairs: list[tuple[str, CacheObject]], objects: Iterable[CacheObject]) -> None:
        large = tuple(objects)
        for start in range(0, len(pairs), _PAIRS):
            self._requests.ask("/cache:keep", CacheKeep(segments=tuple(pairs[start : start + _PAIRS]), objects=large))
            large = ()
