"""The Range header, one range (RFC 9110, section 14)."""

import re

_ONE = re.compile(r"bytes=(\d*)-(\d*)$")


def asked_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and stop in bytes; None for the whole object, also where the header is not understood or cannot be met."""
    match = _ONE.match(header or "")
    if match is None or not any(match.groups()) or size == 0:
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    start, stop = int(first), min(int(last) + 1, size) if last else size
    return (start, stop) if start < stop else None
