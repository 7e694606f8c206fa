"""Where a `map` cuts its rows, and what the blocks are called: the same for who keeps them and who counts them."""

from collections.abc import Collection
from itertools import pairwise

Span = tuple[int, int]
"""The first row and the one after the last."""
_SPAN = "#"


def bounds(rows: int, blocks: int) -> list[Span]:
    """Where numpy.array_split cuts so many rows; blocks without rows are left out."""
    small, larger = divmod(rows, blocks)
    sizes = [small + 1] * larger + [small] * (blocks - larger)
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    return [(start, stop) for start, stop in pairwise(starts) if stop > start]


def block_digest(leaf: str, span: Span) -> str:
    """What a map's leaf, by its digest, is called on some of the rows."""
    return f"{leaf}{_SPAN}{span[0]}-{span[1]}"


def span_of(leaf: str, name: str) -> Span | None:
    """The rows of a block of this leaf; None for what is none."""
    whose, _, place = name.rpartition(_SPAN)
    start, _, stop = place.partition("-")
    return (int(start), int(stop)) if whose == leaf and start.isdecimal() and stop.isdecimal() else None


def repeated(known: Collection[Span], rows: int, blocks: int | None) -> int | None:
    """How many of these blocks another run would take up.

    None where blocks adapt their size and those that are known do not reach from the first row to the last in one way
    alone: how the rest is cut follows from its pace.
    """
    if not known:
        return 0
    if blocks is not None:
        return len(set(bounds(rows, blocks)).intersection(known))
    at = count = 0
    while at < rows:
        ways = [stop for start, stop in known if start == at and stop <= rows]
        if len(ways) != 1:
            return None
        at, count = ways[0], count + 1
    return count
