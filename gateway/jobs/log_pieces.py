"""Pieces of a log on their way out: as lines of JSON, and the lines of one cell among all. No store, no database."""

import codecs
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

LINE_BYTES = 64 * 1024
"""Of a line that is held until it is whole; a longer one is passed on as it comes."""


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Some bytes of one container's output."""

    offset: int
    """Of its first byte, in the text that the filter leaves."""
    attempt: int
    index: int
    data: bytes
    last: bool = True
    """Of its segment: what follows may be another container's."""


async def as_json(pieces: AsyncIterator[LogPiece]) -> AsyncIterator[bytes]:
    """A line of JSON for each piece. Characters stay whole; what is none is replaced, so `size` counts the bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    held = 0
    async for piece in pieces:
        text, known = decoder.decode(piece.data, final=piece.last), held + len(piece.data)
        offset, held = piece.offset - held, len(decoder.getstate()[0])
        if text:
            line = {
                "offset": offset,
                "size": known - held,
                "attempt": piece.attempt,
                "role": "worker" if piece.index else "head",
                "index": piece.index,
                "text": text,
            }
            yield json.dumps(line, ensure_ascii=False).encode() + b"\n"


class _Lines:
    """One container's output, of which the lines that begin with a label are wanted, without it."""

    def __init__(self, label: bytes) -> None:
        self._label = label
        self._held = b""
        self._passing: bool | None = None
        """Whether the rest of a long line is wanted; None at the beginning of a line."""

    def take(self, data: bytes) -> bytes:
        """What is wanted of it, as far as lines are whole."""
        found = []
        *lines, self._held = (self._held + data).split(b"\n")
        for line in lines:
            found.append(self._wanted(line + b"\n"))
            self._passing = None
        if len(self._held) > LINE_BYTES:
            found.append(self._wanted(self._held))
            self._passing, self._held = self._passing or bool(found[-1]), b""
        return b"".join(found)

    def _wanted(self, line: bytes) -> bytes:
        if self._passing is None:
            return line.removeprefix(self._label) if line.startswith(self._label) else b""
        return line if self._passing else b""

    def end(self) -> bytes:
        """What is wanted of a last line without an end."""
        return self._wanted(self._held)


async def of_cell(pieces: AsyncIterator[LogPiece], cell: int, start: int, *, complete: bool) -> AsyncIterator[LogPiece]:
    """The lines of one cell of a sweep, without their labels, from an offset of the text that they are.

    Lines of different containers lie between each other; each container's are put together by itself. `complete`: after
    the last piece nothing will come, so that a line without an end is one.
    """
    label = b"[cell %d] " % cell
    containers: dict[tuple[int, int], _Lines] = {}
    offset = 0
    async for piece in pieces:
        lines = containers.setdefault((piece.attempt, piece.index), _Lines(label))
        found = replace(piece, offset=offset, data=lines.take(piece.data), last=True)
        offset += len(found.data)
        if part := _after(found, start):
            yield part
    for (attempt, index), lines in containers.items() if complete else ():
        found = LogPiece(offset, attempt, index, lines.end())
        offset += len(found.data)
        if part := _after(found, start):
            yield part


def _after(piece: LogPiece, start: int) -> LogPiece | None:
    """A piece without what lies before an offset; None where nothing is left."""
    skipped = max(0, start - piece.offset)
    left = piece.data[skipped:]
    return replace(piece, offset=piece.offset + skipped, data=left) if left else None
