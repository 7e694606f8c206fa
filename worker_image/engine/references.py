"""Files of a reference, which are on this machine, as one input: a frame, one column, or an array."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import JsonValue

from flaregate_wire.planning.checks import suggestion
from flaregate_wire.references import Format, Reference
from worker_image.work import LocalFile

Files = Mapping[str, Sequence[LocalFile]]
"""The files of each reference by its address, in the order of their names."""


def read(given: Reference, files: Files) -> Any:
    """Rows of one file under those of the one before it. Raises what the formats' libraries raise, and LookupError."""
    found = _of(given, files)
    parts = []
    for file in found:
        try:
            parts.append(_READERS[given.kind](Path(file.path), given))
        except LookupError:
            raise
        except Exception as error:
            msg = f"{file.address} cannot be read as {given.kind}: {type(error).__name__}: {error}"
            raise ValueError(msg) from error
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if given.kind == "npy" else _together(parts, found)


def content(given: Reference, files: Files) -> JsonValue:
    """What the input is, for its name in the cache."""
    columns: JsonValue = None if given.columns is None else list(given.columns)
    return ["files", [file.content for file in _of(given, files)], given.kind, columns, given.column]


def _of(given: Reference, files: Files) -> Sequence[LocalFile]:
    found = files.get(given.reference)
    if not found:
        msg = f"{given.reference} was not looked at before the job began; only a gateway does that"
        raise LookupError(msg)
    return found


def _array(path: Path, _: Reference) -> Any:
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _parquet(path: Path, given: Reference) -> Any:
    import pandas as pd  # noqa: PLC0415 - only where there are such files
    import pyarrow.parquet as pq  # noqa: PLC0415

    wanted = _wanted(given)
    if wanted is not None:
        _check(wanted, pq.read_schema(path).names, given)
    return _cut(pd.read_parquet(path, columns=wanted, partitioning=None), given)


def _csv(path: Path, given: Reference) -> Any:
    import pandas as pd  # noqa: PLC0415

    wanted = _wanted(given)
    if wanted is not None:
        _check(wanted, pd.read_csv(path, nrows=0).columns, given)
    return _cut(pd.read_csv(path, usecols=wanted), given)


def _arrow(path: Path, given: Reference) -> Any:
    import pyarrow as pa  # noqa: PLC0415

    with pa.memory_map(str(path)) as file:
        try:
            table = pa.ipc.open_file(file).read_all()
        except pa.ArrowInvalid:  # the other of the two forms, a stream
            file.seek(0)
            table = pa.ipc.open_stream(file).read_all()
    wanted = _wanted(given)
    if wanted is not None:
        _check(wanted, table.column_names, given)
        table = table.select(wanted)
    return _cut(table.to_pandas(), given)


_READERS: dict[Format, Callable[[Path, Reference], Any]] = {
    "parquet": _parquet,
    "csv": _csv,
    "arrow": _arrow,
    "npy": _array,
}


def _wanted(given: Reference) -> list[str] | None:
    if given.column is not None:
        return [given.column]
    return None if given.columns is None else list(given.columns)


def _check(wanted: Sequence[str], known: Sequence[str], given: Reference) -> None:
    for name in wanted:
        if name not in known:
            msg = f"{given.reference} has no column {name!r}{suggestion(name, [str(one) for one in known])}"
            raise LookupError(msg)


def _cut(frame: Any, given: Reference) -> Any:
    """The columns in the order in which they are wanted."""
    if given.column is not None:
        return frame[given.column]
    return frame if given.columns is None else frame[list(given.columns)]


def _together(parts: Sequence[Any], files: Sequence[LocalFile]) -> Any:
    """Frames or columns, row under row; rows that were only counted are counted on."""
    import pandas as pd  # noqa: PLC0415

    for part, file in zip(parts, files, strict=True):
        ours, first = list(getattr(part, "columns", ())), list(getattr(parts[0], "columns", ()))
        if ours != first:
            msg = f"{file.address} has the columns {ours}, {files[0].address} has {first}; all files have the same"
            raise ValueError(msg)
    counted = all(isinstance(part.index, pd.RangeIndex) for part in parts)
    return pd.concat(parts, ignore_index=counted)
