"""A large file on its way to the store, in parts: what is asked and sent next, and when to give up. No requests."""

import mmap
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flaregate.sums import Sums, summed
from flaregate_wire.attempts import LargeObject, LargePlace
from flaregate_wire.blobs import Sending
from flaregate_wire.limits import PART_FLOOR
from worker_image.gateway_link import Refused
from worker_image.transfers import StoreRefused

AT_ONCE = 4
"""Parts."""
_TRIES = 3
"""To send something of which nothing arrives."""
_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the gateway for requests; its answer is a LargePlace."""

    body: LargeObject


@dataclass(frozen=True, slots=True)
class Finish:
    """Tell the gateway that every part is there."""

    body: LargeObject


@dataclass(frozen=True, slots=True)
class Send:
    """Send the bytes of the file from `start` up to `stop`."""

    request: Sending
    start: int
    stop: int


Flow = Generator[Ask | tuple[Send, ...] | Finish, Any, str]
"""Is sent the answers, or thrown Refused and StoreRefused; gives the object's key."""


def in_parts(name: str, sums: Sums) -> Flow:
    """Bring a file to the store; while that gets on, ask anew where requests are too old or the upload is forgotten."""
    upload: str | None = None
    least, stuck, failed = sums.size + 1, 0, StoreRefused(f"the store does not keep what it is sent of {name}")
    while stuck <= _TRIES:
        asked = LargeObject(name=name, size=sums.size, parts=sums.parts, upload=upload)
        try:
            place: LargePlace = yield Ask(asked)
        except Refused as error:
            if upload is None:
                raise
            upload, stuck, failed = None, stuck + 1, StoreRefused(str(error))
            continue
        upload = place.upload
        stuck = 0 if place.missing < least else stuck + 1
        least = place.missing
        sends = tuple(_send(sums, request) for request in place.send)
        try:
            yield sends
            if sum(send.stop - send.start for send in sends) == place.missing:
                yield Finish(asked.model_copy(update={"upload": upload}))
                return place.key
        except (StoreRefused, Refused) as error:
            failed = StoreRefused(str(error))
    raise failed


def _send(sums: Sums, request: Sending) -> Send:
    number = request.part or 0
    start = number * sums.parts[0].size
    return Send(request, start, start + sums.parts[number].size)


def sums_of(path: Path, floor: int = PART_FLOOR) -> Sums:
    """Size and sums of a file, which is read once and held by nobody."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return summed([])
        return summed([memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))], floor)


def pieces(path: Path, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """The bytes of a file from `start` up to `stop`, a MiB at most at a time."""
    with path.open("rb") as file:
        file.seek(start)
        left = float("inf") if stop is None else stop - start
        while left > 0 and (piece := file.read(int(min(_PIECE, left)))):
            left -= len(piece)
            yield piece
