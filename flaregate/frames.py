"""Frames and tables as Arrow IPC files, typed back as what they were. The one module of the SDK that uses pyarrow.

A frame that would not come back equal is not taken: another encoding has to carry it. What Arrow does not say of it is
in the file's metadata, as JSON under `flaregate`: whose it is, whether it is one column alone and its name, and whether
its rows lie together in memory (sums of floating point numbers depend on it in their last digits).
"""

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ARROW = "application/vnd.apache.arrow.file"
_KEY = b"flaregate"
_COLUMN = "0"
"""What a column alone is called in its file."""
_NAMES = (str, type(None))
_PLAIN = "biufcmM"
"""Kinds of numpy types that lie in a frame as they lie in an array."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A frame as the bytes of an Arrow file."""

    data: memoryview
    shape: tuple[int, ...]
    library: str
    """The distribution that the reader needs beside pyarrow, or pyarrow itself."""


def encode(obj: Any) -> Encoded | None:
    """A pandas or polars frame or series, or an Arrow table or column; None for what would not come back equal."""
    library, _, name = f"{type(obj).__module__.partition('.')[0]}.{type(obj).__name__}".partition(".")
    way = _WAYS.get((library, name))
    if way is None or not _installed():
        return None
    try:
        table, told = way(obj)
        if table is None or not table.num_columns:  # without columns the number of rows would be lost
            return None
        data = _written(table, {"library": library, "kind": name, **told})
    except Exception:  # noqa: BLE001 - what Arrow cannot hold, it says in many ways
        return None
    return Encoded(data, tuple(obj.shape) if hasattr(obj, "shape") else (len(obj),), library)


def decode(path: Path) -> Any:
    """What was encoded; of another Arrow file its table. Raises ImportError where the library is not installed."""
    import pyarrow as pa  # noqa: PLC0415 - only where there are frames

    with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
        return _typed(reader.read_all())


def _installed() -> bool:
    try:
        import pyarrow.ipc  # noqa: F401, PLC0415
    except ImportError:
        return False
    return True


def _written(table: Any, told: dict[str, Any]) -> memoryview:
    import pyarrow as pa  # noqa: PLC0415

    metadata = {**(table.schema.metadata or {}), _KEY: json.dumps(told).encode()}
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(sink, table.schema.with_metadata(metadata), options=options) as writer:
        writer.write_table(table.replace_schema_metadata(metadata))
    return memoryview(sink.getvalue())


def _typed(table: Any) -> Any:
    metadata = dict(table.schema.metadata or {})
    told = json.loads(metadata.pop(_KEY, b"{}"))
    table = table.replace_schema_metadata(metadata or None)
    read = _READERS.get(told.get("library", "pyarrow"), _arrow)
    return read(table, told)


def _arrow(table: Any, told: dict[str, Any]) -> Any:
    return table.column(0) if told.get("kind") == "ChunkedArray" else table


# --- Arrow


def _of_table(table: Any) -> tuple[Any, dict[str, Any]]:
    return (None if _KEY in (table.schema.metadata or {}) else table), {}


def _of_column(column: Any) -> tuple[Any, dict[str, Any]]:
    import pyarrow as pa  # noqa: PLC0415

    return pa.table({_COLUMN: column}), {}


# --- polars


def _of_polars(frame: Any) -> tuple[Any, dict[str, Any]]:
    polars = sys.modules["polars"]
    series = isinstance(frame, polars.Series)
    whole = frame.to_frame() if series else frame
    table = whole.to_arrow(compat_level=polars.CompatLevel.oldest())
    back = polars.from_arrow(table.slice(0, 0))
    return (table if back.schema == whole.schema else None), {}


def _polars(table: Any, told: dict[str, Any]) -> Any:
    import polars as pl  # noqa: PLC0415

    frame: Any = pl.from_arrow(table)
    return frame.to_series() if told["kind"] == "Series" else frame


# --- pandas


def _of_series(series: Any) -> tuple[Any, dict[str, Any]]:
    if type(series.name) not in (int, *_NAMES):
        return None, {}
    frame = series.to_frame(_COLUMN)
    frame.attrs = series.attrs
    table, told = _of_frame(frame)
    return table, {**told, "name": series.name}


def _of_frame(frame: Any) -> tuple[Any, dict[str, Any]]:
    import pyarrow as pa  # noqa: PLC0415

    names = (frame.columns.get_level_values(level) for level in range(frame.columns.nlevels))
    mixed = any(one.inferred_type.startswith("mixed") for one in names)  # Arrow would make strings of such names
    if mixed or json.loads(json.dumps(frame.attrs)) != frame.attrs:
        return None, {}
    table = pa.Table.from_pandas(frame)
    told = {"by_row": True} if _by_row(frame) else {}
    objects = list(_objects(frame))
    shown = frame if objects else frame.iloc[:1]
    back = (table if objects else table.slice(0, 1)).to_pandas()
    if isinstance(frame.index, sys.modules["pandas"].RangeIndex) and type(frame.index.name) in _NAMES:
        back.index = shown.index  # the whole file says what it is; a slice has lost it
    same = _same_frame(back, shown) and all(map(_same_objects, _objects(back), objects))
    return (table if same else None), told


def _by_row(frame: Any) -> bool:
    """Whether it lies in memory row by row, as an array does; Arrow gives it back column by column."""
    dtypes = set(frame.dtypes)
    if len(dtypes) != 1 or not all(map(_is_plain, dtypes)) or min(frame.shape) < 2:  # noqa: PLR2004
        return False
    over, beside = frame.iloc[:2].to_numpy().strides
    return bool(over > beside)


def _is_plain(dtype: Any) -> bool:
    return isinstance(dtype, sys.modules["numpy"].dtype) and dtype.kind in _PLAIN


def _is_object(dtype: Any) -> bool:
    return isinstance(dtype, sys.modules["numpy"].dtype) and dtype.hasobject


def _pandas(table: Any, told: dict[str, Any]) -> Any:
    import numpy as np  # noqa: PLC0415
    import pandas as pd  # noqa: PLC0415

    frame = table.to_pandas()
    if told.get("by_row"):
        rows = np.ascontiguousarray(frame.to_numpy())
        attrs = frame.attrs
        frame = pd.DataFrame(rows, index=frame.index, columns=frame.columns, copy=False)
        frame.attrs = attrs
    if told["kind"] == "DataFrame":
        return frame
    series = frame.iloc[:, 0].rename(told["name"])
    series.attrs = frame.attrs
    return series


def _objects(frame: Any) -> Iterable[Any]:
    """The columns and parts of the index that hold Python objects."""
    for place, dtype in enumerate(frame.dtypes):
        if _is_object(dtype):
            yield frame.iloc[:, place]
    index = frame.index
    for level in range(index.nlevels):
        values = index.get_level_values(level)
        if _is_object(values.dtype):
            yield values


def _same_objects(one: Any, other: Any) -> bool:
    """Whether each value is of the same type and equal. A value that does not equal itself is not known to be."""
    pairs = zip(one, other, strict=True)
    return all(type(a) is type(b) and (a is b or bool(a == b)) for a, b in pairs)


def _same_frame(one: Any, other: Any) -> bool:
    return (
        _same_index(one.columns, other.columns)
        and _same_index(one.index, other.index)
        and len(one.dtypes) == len(other.dtypes)
        and all(map(_same_dtype, one.dtypes, other.dtypes))
        and one.attrs == other.attrs
        and one.flags == other.flags
    )


def _same_index(one: Any, other: Any) -> bool:
    levels = range(one.nlevels if one.nlevels == other.nlevels else 0)
    return (
        list(one.names) == list(other.names)
        and bool(one.equals(other))
        and getattr(one, "freq", None) == getattr(other, "freq", None)
        and all(_same_dtype(one.get_level_values(n).dtype, other.get_level_values(n).dtype) for n in levels)
        and (not _is_object(one.dtype) or list(map(type, one)) == list(map(type, other)))
    )


def _same_dtype(one: Any, other: Any) -> bool:
    if one != other or type(one) is not type(other):
        return False
    categories = getattr(one, "categories", None)  # their order is no part of what makes two types equal
    return categories is None or _same_index(categories, other.categories)


_WAYS: dict[tuple[str, str], Callable[[Any], tuple[Any, dict[str, Any]]]] = {
    ("pandas", "DataFrame"): _of_frame,
    ("pandas", "Series"): _of_series,
    ("polars", "DataFrame"): _of_polars,
    ("polars", "Series"): _of_polars,
    ("pyarrow", "Table"): _of_table,
    ("pyarrow", "ChunkedArray"): _of_column,
}
_READERS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {"pandas": _pandas, "polars": _polars, "pyarrow": _arrow}
