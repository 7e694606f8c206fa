"""What a cell of a sweep says of itself while it runs: things it leaves, and figures. Outside a cell nothing happens.

A process that runs user code has no way to the gateway: what is said is written into the container's outbox, a folder,
and the supervisor brings it on its way. A note is a JSON file that appears whole; its data is there before it.
"""

import mimetypes
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from flaregate.encoding import is_estimator
from flaregate.fitted_file import MEDIA_TYPE, FittedNode, write
from flaregate.notes import ArtifactNote, MetricsNote, Note
from flaregate.payload import Staged, encode_data
from flaregate.settings import outbox
from flaregate.values import encode_value

Thing = TypeVar("Thing")

candidate: ContextVar[int | None] = ContextVar("candidate", default=None)
"""The cell that runs here."""
_NAME = re.compile(r"[\w.-][\w. -]{0,79}")
_PAUSE = 0.02


@contextmanager
def as_candidate(number: int) -> Iterator[None]:
    """What is said in here is said by this cell."""
    token = candidate.set(number)
    try:
        yield
    finally:
        candidate.reset(token)


def artifact(name: str, path_or_object: Thing) -> Thing:
    """Leave a file or an object with the job, under `name` and the number of the cell: `name-7`.

    Args:
        name: 1 to 80 letters, digits, spaces and `._-`; one thing a name in a cell.
        path_or_object: The path of a file; or any object: a fitted estimator is kept as a fitted pipeline, which
            `client.submit(flaregate.ref("job:ID/name-7"), action="predict", …)` takes.

    Returns:
        What was given. Outside a job nothing else happens.
    """
    if not _NAME.fullmatch(name):
        msg = f"{name!r} is no name of an artifact: 1 to 80 letters, digits, spaces and '._-'"
        raise ValueError(msg)
    folder, number = outbox(), candidate.get()
    if folder is not None and number is not None:
        note_id = _note_id(number)
        data = folder / f"{note_id}.data"
        media_type = _write(path_or_object, data)
        _put(folder, note_id, ArtifactNote(name=f"{name}-{number}", media_type=media_type))
    return path_or_object


def report(step: int, **metrics: float) -> None:
    """Stream figures of a step, such as `report(epoch, loss=0.3)`. Outside a job nothing happens.

    Args:
        step: How far it is, from 0.
        **metrics: Numbers.
    """
    folder, number = outbox(), candidate.get()
    values = {name: encode_value(_number(name, value), _refuse) for name, value in metrics.items()}
    if folder is not None and number is not None:
        _put(folder, _note_id(number), MetricsNote(candidate=number, step=int(step), values=values))


def settle(number: int, seconds: float) -> bool:
    """Wait until all that a cell has said is on its way, so that it is kept before the cell's outcome is known."""
    folder = outbox()
    end = time.monotonic() + seconds
    while folder is not None and any(folder.glob(f"*.{number}.*.json")):
        if time.monotonic() > end:
            return False
        time.sleep(_PAUSE)
    return True


def _note_id(number: int) -> str:
    """Sorts by time."""
    return f"{time.time_ns():020d}.{number}.{uuid.uuid4().hex}"


def _write(given: Any, path: Path) -> str:
    """Write a file or an object; gives its media type."""
    if isinstance(given, str | Path):
        shutil.copyfile(given, path)
        return mimetypes.guess_type(given)[0] or "application/octet-stream"
    if is_estimator(given):
        write(path, [FittedNode("model", "estimator", (), given)])
        return MEDIA_TYPE
    item = encode_data(given)
    with path.open("wb") as file:
        file.writelines(item.chunks)
    return item.media_type


def _put(folder: Path, note_id: str, note: Note) -> None:
    draft = folder / f".{note_id}"
    draft.write_bytes(note.model_dump_json().encode())
    draft.rename(folder / f"{note_id}.json")


def _number(name: str, value: Any) -> float:
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, int | float):
        msg = f"report takes numbers; {name} is a {type(value).__name__}"
        raise TypeError(msg)
    return value


def _refuse(item: Staged) -> str:
    raise TypeError(item.media_type)
