"""What blocks, objects and cells gave, in order, and how the parts of one whole are joined."""

import sys
from collections.abc import Callable
from itertools import chain
from typing import Any


class Outputs(list[Any]):
    """A list with one entry a block, an object or a cell."""

    def concat(self) -> Any:
        """All entries as one: arrays, sparse matrices, frames and lists, row under row.

        Raises TypeError for entries of other or of different kinds.
        """
        for matches, join in _KINDS:
            if self and all(map(matches, self)):
                return join(self)
        kinds = ", ".join(sorted({type(part).__name__ for part in self})) or "nothing"
        msg = f"the outputs are {kinds}; arrays, sparse matrices, frames and lists are joined"
        raise TypeError(msg)


def _of(module: str, *names: str) -> Callable[[Any], bool]:
    """Whether a part is of one of these classes; a library that is not loaded has made none."""

    def matches(part: Any) -> bool:
        loaded = sys.modules.get(module)
        return loaded is not None and isinstance(part, tuple(getattr(loaded, name) for name in names))

    return matches


def _by(module: str, function: str) -> Callable[[list[Any]], Any]:
    def join(parts: list[Any]) -> Any:
        return getattr(sys.modules[module], function)(parts)

    return join


def _is_array(part: Any) -> bool:
    return _of("numpy", "ndarray")(part) and part.ndim > 0


_KINDS: tuple[tuple[Callable[[Any], bool], Callable[[list[Any]], Any]], ...] = (
    (_is_array, _by("numpy", "concatenate")),
    (_of("scipy.sparse", "spmatrix", "sparray"), lambda parts: _by("scipy.sparse", "vstack")(parts).tocsr()),
    (_of("pandas", "DataFrame", "Series"), _by("pandas", "concat")),
    (_of("polars", "DataFrame", "Series"), _by("polars", "concat")),
    (_of("pyarrow", "Table"), _by("pyarrow", "concat_tables")),
    (lambda part: isinstance(part, list | tuple), lambda parts: list(chain.from_iterable(parts))),
)
