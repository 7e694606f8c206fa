"""Reads the cache's segments for the gateway itself: bounded, each once, and none without its sum."""

import asyncio
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import ValidationError

from flaregate_wire.attempts import CacheLine, CacheObject
from gateway.jobs.cache_index import CacheIndex, Scope
from gateway.stores.base import Store, StoreError

SEGMENTS = 2000
BYTES = 64 * 1024 * 1024
"""Of all segments that one reading takes together, at most."""
_AT_ONCE = 16
_KEYS = 1000
"""In one question to the index."""
Entries = dict[str, dict[str, CacheLine]]
"""By shelf and key."""


class TooMuch(Exception):
    """There is more than may be read."""


@dataclass(slots=True)
class Reading:
    """Reads segments for one plan, each once."""

    index: CacheIndex
    store: Store
    scope: Scope
    now: datetime
    _lines: dict[str, list[CacheLine]] = field(default_factory=dict)
    """By the segment's sum."""
    _size: int = 0
    _requests: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def entries(self, shelves: Sequence[str]) -> Entries:
        """All that is on these shelves; of several lines with one key the oldest counts. Raises TooMuch."""
        placed = [
            (item.shelf, item.object)
            for part in _parts(shelves)
            for item in await self.index.segments(self.scope, part, self.now)
        ]
        new = {item.sha256: item for _, item in placed if item.sha256 not in self._lines}
        self._size += sum(item.size for item in new.values())
        if len(self._lines) + len(new) > SEGMENTS or self._size > BYTES:
            raise TooMuch
        found = await asyncio.gather(*(self._segment(item) for item in new.values()))
        self._lines.update(zip(new, found, strict=True))
        on_shelf: dict[str, list[str]] = {}
        for shelf, item in placed:
            on_shelf.setdefault(item.sha256, []).append(shelf)
        return await asyncio.to_thread(self._sorted, on_shelf)

    def _sorted(self, on_shelf: Mapping[str, Collection[str]]) -> Entries:
        entries: Entries = {}
        for sha256, listed in on_shelf.items():
            shelves = frozenset(listed)
            for line in self._lines[sha256]:
                if line.shelf in shelves:
                    entries.setdefault(line.shelf, {}).setdefault(line.key, line)
        return entries

    async def _segment(self, item: CacheObject) -> list[CacheLine]:
        """Its lines; none where it is gone or is not what it should be."""
        async with self._requests:
            try:
                data = b"".join([piece async for piece in self.store.get(item.key)])
            except StoreError:
                return []
        return await asyncio.to_thread(_read, item, data)

    async def gone(self, entries: Entries) -> frozenset[str]:
        """The keys of large results that the cache has no longer."""
        named = {line.blob.key for lines in entries.values() for line in lines.values() if line.blob is not None}
        known = [await self.index.known(self.scope, part, self.now) for part in _parts(sorted(named))]
        return frozenset(named.difference(*known))


def _parts(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (values[start : start + _KEYS] for start in range(0, len(values), _KEYS))


def _read(item: CacheObject, data: bytes) -> list[CacheLine]:
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != item.sha256:
        return []
    return list(_lines(data.splitlines()))


def _lines(lines: Iterable[bytes]) -> Iterator[CacheLine]:
    for line in lines:
        try:
            yield CacheLine.model_validate_json(line)
        except ValidationError:
            continue
