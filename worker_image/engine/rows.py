"""Rows on their way between nodes: read-only views for user code, or copies of its own."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Parts:
    """Training and test rows as one node passes them on; nothing to test where all rows train."""

    train: Any
    test: Any


def frozen(rows: Any) -> Any:
    """The same rows, read-only as far as their kind allows; a frame or list shares nothing that a write would reach."""
    flags = getattr(rows, "flags", None)
    if flags is not None and hasattr(flags, "writeable"):
        view = rows.view()
        view.flags.writeable = False
        return view
    if hasattr(rows, "iloc"):
        return rows.copy(deep=False)  # pandas copies on write
    if isinstance(rows, list):
        return list(rows)
    for name in ("data", "indices", "indptr"):  # a sparse matrix
        array: Any = getattr(rows, name, None)
        if hasattr(array, "setflags"):
            array.setflags(write=False)
    return rows


def writable(rows: Any) -> Any:
    """A copy that may be written to."""
    copy = getattr(rows, "copy", None)
    return copy() if callable(copy) else deepcopy(rows)
