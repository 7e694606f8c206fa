"""Requests for what is missing of an upload in parts: a few at a time, so that none of them grows old unused."""

from collections.abc import Collection, Sequence

from flaregate_wire.blobs import Part, Sending
from gateway.stores.base import TakesParts

AT_ONCE = 32
"""Requests in one answer: signing one takes a part of a millisecond of the event loop."""


def in_parts(
    store: TakesParts, key: str, upload: str | None, parts: Sequence[Part], there: Collection[int]
) -> tuple[tuple[Sending, ...], int]:
    """Requests for the first of the missing parts, and the bytes that are missing in all."""
    missing = [number for number in range(len(parts)) if number not in there]
    first = missing[:AT_ONCE] if upload is not None else []
    requests = (Sending.of(store.presign_part(key, upload or "", number, parts), number) for number in first)
    return tuple(requests), sum(parts[number].size for number in missing)
