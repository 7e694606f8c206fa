"""Results on their way to a file or to standard output, as the gateway writes them."""

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from flaregate.client import Job
from flaregate.errors import Refused
from flaregate.transport import calls
from flaregate.transport.answers import TryAgain
from flaregate.transport.links import Link
from flaregate_wire.events import OutcomeEvent, encode
from flaregate_wire.problems import Code


class Form(StrEnum):
    """How results are written."""

    TEXT = "text"
    NDJSON = "ndjson"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


_MEDIA_TYPES = {
    Form.JSON: "application/json",
    Form.CSV: "text/csv",
    Form.PARQUET: "application/vnd.apache.parquet",
}
_BY_ENDING = {".csv": Form.CSV, ".parquet": Form.PARQUET, ".json": Form.JSON}


def chosen(form: Form | None, group_by: str | None, to: Path | None, *, terminal: bool) -> Form:
    """The form asked for, or the one that fits; raises Refused where they do not go together."""
    if form is None:
        otherwise = Form.CSV if group_by else Form.TEXT if terminal and to is None else Form.NDJSON
        form = _BY_ENDING.get(to.suffix, otherwise) if to is not None else otherwise
    if group_by is None and form is Form.JSON:
        raise Refused("json is for groups: give --group-by, or --format ndjson", code=Code.INVALID_REQUEST)
    if group_by is not None and form not in _MEDIA_TYPES:
        raise Refused(f"groups are csv, parquet or json, not {form}", code=Code.INVALID_REQUEST)
    if form is Form.PARQUET and to is None and terminal:
        raise Refused("Parquet is not for a terminal: give --output FILE", code=Code.INVALID_REQUEST)
    return form


def save(link: Link, job: Job, form: Form, group_by: str | None, to: Path | None) -> None:
    """Write them: lines as they come, all else when it is whole."""
    if form is Form.NDJSON and to is None:
        for line in _lines(job):
            sys.stdout.write(line.decode())
            sys.stdout.flush()
        return
    with _file(to) as file:
        if form is Form.NDJSON:
            file.writelines(_lines(job))
        else:
            job.wait()
            _fetch(link, calls.results(job.id, _MEDIA_TYPES[form], group_by), file)


def _lines(job: Job) -> Iterator[bytes]:
    return (encode(event) + b"\n" for event in job.events() if isinstance(event, OutcomeEvent))


@contextlib.contextmanager
def _file(to: Path | None) -> Iterator[BinaryIO]:
    """A file that takes the place of `to`, or is printed, if all goes well."""
    if to is None:
        with tempfile.TemporaryFile() as file:
            yield file
            file.seek(0)
            shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        return
    draft = to.with_name(f".{to.name}.part")
    try:
        with draft.open("wb") as file:
            yield file
        draft.replace(to)
    finally:
        draft.unlink(missing_ok=True)


def _fetch(link: Link, call: calls.Call, file: BinaryIO) -> None:
    """A whole answer; from the start again after a cut."""
    for pause in (0.5, 2.0, 5.0, None):
        try:
            with link.stream(call) as response:
                file.seek(0)
                file.truncate()
                for piece in response.iter_bytes():
                    file.write(piece)
        except TryAgain as again:
            if pause is None:
                raise again.error from again.__cause__
            time.sleep(pause)
        else:
            return
