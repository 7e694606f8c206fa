"""The cache as the engine sees it: shelves of entries that attempts have made; none is trusted without its sum.

A shelf groups the results of one node behind one upstream on one source. Its entries lie in segments: objects of JSON
lines, one entry a line, one segment for all that was kept within some seconds. A large result is an object of its own,
to which an entry refers. Entries are only ever added; of several with the same key the first one counts.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pydantic import JsonValue, ValidationError

from flaregate_wire.attempts import (
    CacheFetch,
    CacheFetched,
    CacheFound,
    CacheLine,
    CacheLookup,
    CacheObject,
    CacheSegment,
)
from flaregate_wire.model import PeerModel
from worker_image.cache_keeper import Keeper
from worker_image.cache_requests import Requests
from worker_image.gateway_link import LinkError
from worker_image.transfers import StoreRefused

log = logging.getLogger(__name__)
SHELVES = 1000
"""In one question."""
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """What an attempt computed before."""

    report: dict[str, JsonValue]
    blob: CacheObject | None
    """A large result."""
    job: str
    """Whose attempt made it."""


class Cache(Protocol):
    """Threads may share it. Nothing here raises for what the network, the gateway or the store does."""

    def lookup(self, shelves: Sequence[str]) -> dict[str, dict[str, Entry]]:
        """Entries by shelf and key. Blocks. What is missing, unreadable or corrupt is absent."""
        ...

    def keep(self, shelf: str, key: str, report: Mapping[str, JsonValue], file: Path | None = None) -> None:
        """Keep an entry, and with it the file as it is now. Does not block.

        The caller may remove the file at once, and must not write into it. Raises ValueError for what is not JSON.
        """
        ...

    def fetch(self, entry: Entry, path: Path) -> bool:
        """Write an entry's large result to a file. Blocks. False where it is gone, unreadable or corrupt: no file."""
        ...

    def close(self) -> None:
        """Wait until what was kept is in the store, for some seconds at most. Nothing is kept afterwards."""
        ...


class NoCache:
    """Knows nothing and keeps nothing."""

    def lookup(self, shelves: Sequence[str]) -> dict[str, dict[str, Entry]]:
        return {}

    def keep(self, shelf: str, key: str, report: Mapping[str, JsonValue], file: Path | None = None) -> None:
        pass

    def fetch(self, entry: Entry, path: Path) -> bool:
        return False

    def close(self) -> None:
        pass


class CacheAccess(PeerModel):
    """What a driver needs to use the cache. It is the attempt's own token: not for processes that run user code."""

    url: str
    attempt: str
    token: str
    mode: Literal["on", "read"] = "on"
    drops: Path | None = None
    """Where a gateway on this machine takes large results as files."""
    patience: float = 30.0
    """Seconds that gateway and store may be away; then nothing is known and nothing is kept, and the job goes on."""
    closing: float = 20.0
    """Seconds that the end may wait for what was kept."""


class GatewayCache:
    """The cache of the job's trust scope, by the gateway's attempt endpoints and presigned requests."""

    def __init__(self, access: CacheAccess, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._requests = Requests(access.url, access.attempt, access.token, access.patience, access.drops)
        self._keeper = Keeper(self._requests, folder, access.closing) if access.mode == "on" else None

    @property
    def requests(self) -> int:
        """Requests sent until now, to the gateway and to the store."""
        return self._requests.count

    def lookup(self, shelves: Sequence[str]) -> dict[str, dict[str, Entry]]:
        found: dict[str, dict[str, Entry]] = {}
        for start in range(0, len(shelves), SHELVES):
            self._look_up(tuple(shelves[start : start + SHELVES]), found)
        return found

    def _look_up(self, shelves: tuple[str, ...], found: dict[str, dict[str, Entry]]) -> None:
        try:
            answer = CacheFound.model_validate_json(self._requests.ask("/cache:lookup", CacheLookup(shelves=shelves)))
        except (LinkError, ValidationError) as error:
            log.warning("the cache cannot be asked: %s", error)
            return
        segments = {item.object.sha256: item for item in answer.segments}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            lines = dict(zip(segments, pool.map(self._lines, segments.values()), strict=True))
        shelved = {(item.object.sha256, item.shelf) for item in answer.segments}
        for sha256, item in segments.items():
            for line in lines[sha256]:
                if (sha256, line.shelf) in shelved:
                    entry = Entry(line.report, line.blob, item.job)
                    found.setdefault(line.shelf, {}).setdefault(line.key, entry)

    def _lines(self, segment: CacheSegment) -> list[CacheLine]:
        """The lines of a segment that can be read; each segment is downloaded once."""
        path = self._folder / segment.object.sha256.removeprefix("sha256:")
        try:
            if not path.exists():
                self._requests.read(segment.get, segment.object, path)
            lines = list(_read(path))
        except (LinkError, StoreRefused, OSError) as error:
            log.warning("a segment of the cache is left out: %s", error)
            return []
        if None in lines:
            log.warning("%d lines of the segment %s cannot be read", lines.count(None), segment.object.key)
        return [line for line in lines if line is not None]

    def keep(self, shelf: str, key: str, report: Mapping[str, JsonValue], file: Path | None = None) -> None:
        if self._keeper is not None:
            self._keeper.keep(shelf, key, report, file)

    def fetch(self, entry: Entry, path: Path) -> bool:
        if entry.blob is None:
            return False
        try:
            asked = CacheFetch(keys=(entry.blob.key,))
            answer = CacheFetched.model_validate_json(self._requests.ask("/cache:fetch", asked))
            transfer = answer.get.get(entry.blob.key)
            if transfer is None:
                return False
            self._requests.read(transfer, entry.blob, path)
        except (LinkError, StoreRefused, ValidationError, OSError) as error:
            log.warning("%s is left out: %s", entry.blob.key, error)
            return False
        return True

    def close(self) -> None:
        if self._keeper is not None:
            self._keeper.close()
        self._requests.close()


def _read(path: Path) -> Iterator[CacheLine | None]:
    with path.open("rb") as file:
        for line in file:
            try:
                yield CacheLine.model_validate_json(line)
            except ValidationError:
                yield None
