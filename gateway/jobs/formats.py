"""Tables as bytes: CSV that a spreadsheet may open, Parquet, JSON. Only this module of the gateway imports pyarrow."""

import csv
import io
import math
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from gateway.jobs.columns import Type
from gateway.jobs.errors import NotAcceptable
from gateway.jobs.results import PAGE, Table

ROW_GROUP = 10_000
SPOOL = 8 * 1024 * 1024
"""Bytes of a file that are kept in memory; what is longer goes to a temporary file."""
PIECE = 256 * 1024
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class ParquetMissing(NotAcceptable):
    """Parquet needs pyarrow where the gateway runs: pip install 'flaregate[data]'."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


def csv_pieces(table: Table) -> Iterator[bytes]:
    """Lines of CSV (RFC 4180) after a line of names; a missing value is empty."""
    columns = table.columns
    written = io.StringIO(newline="")
    writer = csv.writer(written)
    writer.writerow([_harmless(column.name) for column in columns])
    rows = table.rows()
    while True:
        yield written.getvalue().encode()
        written.seek(0)
        written.truncate()
        page = list(islice(rows, PAGE))
        if not page:
            return
        writer.writerows([_field(row.get(column.name), column.type) for column in columns] for row in page)


def _field(value: Any, kind: Type) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _harmless(value) if kind in ("text", "json") and value is not None else value


def _harmless(text: str) -> str:
    """With an apostrophe before what a spreadsheet would run as a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def parquet_pieces(table: Table) -> Iterator[bytes]:
    """A Parquet file. It is whole before its first byte goes. Raises ParquetMissing."""
    file: IO[bytes] = SpooledTemporaryFile(SPOOL)  # noqa: SIM115 - it is closed with its last piece
    try:
        _write_parquet(table, file)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return _pieces(file)


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE):
            yield piece


def _write_parquet(table: Table, file: IO[bytes]) -> None:
    try:
        import pyarrow as pa  # noqa: PLC0415 - only where it is asked for
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise ParquetMissing from error
    types = {
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "text": pa.string(),
        "json": pa.string(),
        "time": pa.timestamp("us", tz="UTC"),
    }
    schema = pa.schema([(column.name, types[column.type]) for column in table.columns])
    times = [column.name for column in table.columns if column.type == "time"]
    rows = table.rows()
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while page := list(islice(rows, ROW_GROUP)):
            timed = [row | {name: datetime.fromisoformat(row[name]) for name in times if name in row} for row in page]
            writer.write_table(pa.Table.from_pylist(timed, schema))


def json_rows(table: Table) -> list[dict[str, Any]]:
    """The rows, with typed values for numbers that JSON has not; a missing value is null."""
    return [{column.name: _typed(row.get(column.name)) for column in table.columns} for row in table.rows()]


def _typed(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return {"$float": "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"}
