"""Sums of bytes in memory or in a mapped file: of the whole and of its parts in one pass. Nothing is copied."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from flaregate_wire.blobs import Part
from flaregate_wire.limits import PART_BYTES, PART_FLOOR

_MANY = 1000
"""Parts of one upload, at most: larger things are cut into larger parts."""
_MIB = 1024 * 1024

Chunk = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Sums:
    """What there is to say of bytes before they are sent."""

    size: int
    sha256: str
    """`sha256:…`"""
    parts: tuple[Part, ...]
    """None of something small, which is sent whole."""


def summed(chunks: Iterable[Chunk], floor: int = PART_FLOOR) -> Sums:
    """Size and sums of some bytes; of each part too, in a second thread, where there are `floor` bytes or more."""
    views = [memoryview(chunk).cast("B") for chunk in chunks if memoryview(chunk).nbytes]
    size = sum(view.nbytes for view in views)
    total = hashlib.sha256()
    if size < floor:
        for view in views:
            total.update(view)
        return Sums(size, _text(total.hexdigest()), ())
    parts: list[Part] = []
    with ThreadPoolExecutor(1, "sums") as beside:  # hashlib lets other threads run
        for start in range(0, size, each := part_size(size)):
            stop = min(start + each, size)
            pieces = list(cut(views, start, stop, each))
            part = beside.submit(_sum, pieces)
            for piece in pieces:
                total.update(piece)
            parts.append(Part(size=stop - start, sha256=part.result()))
    return Sums(size, _text(total.hexdigest()), tuple(parts))


def part_size(size: int) -> int:
    """Bytes of each part but the last of an upload of so many bytes."""
    return max(PART_BYTES, -(-size // _MANY // _MIB) * _MIB)


def cut(chunks: Sequence[Chunk], start: int, stop: int, longest: int) -> Iterator[memoryview]:
    """The bytes from `start` up to `stop`, in pieces of at most `longest`."""
    place = 0
    for chunk in chunks:
        view = memoryview(chunk)
        low, high = max(start - place, 0), min(stop - place, view.nbytes)
        for at in range(low, high, longest):
            yield view[at : min(at + longest, high)]
        place += view.nbytes
        if place >= stop:
            return


def _sum(pieces: Sequence[memoryview]) -> str:
    total = hashlib.sha256()
    for piece in pieces:
        total.update(piece)
    return _text(total.hexdigest())


def _text(digits: str) -> str:
    return f"sha256:{digits}"
