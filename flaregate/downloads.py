"""Where artifacts go: a file that is whole or not there, checked against its sum."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flaregate.errors import GatewayUnavailable, NoArtifact
from flaregate.fitted_file import MEDIA_TYPE
from flaregate.payload import NPY, decode_array, decode_data
from flaregate_wire.jobs import ArtifactView


class Sink:
    """Takes the bytes of one artifact."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._sum = hashlib.sha256()

    def restart(self) -> None:
        """Begin again after a cut."""
        self._file.seek(0)
        self._file.truncate()
        self._sum = hashlib.sha256()

    def write(self, piece: bytes) -> None:
        """Take the next bytes."""
        self._file.write(piece)
        self._sum.update(piece)

    def close(self) -> str:
        """Finish; gives `sha256:…`."""
        self._file.close()
        return f"sha256:{self._sum.hexdigest()}"


@contextmanager
def into(path: Path, expected: ArtifactView) -> Iterator[Sink]:
    """A sink whose bytes become the file at `path` if they are the ones expected."""
    draft = path.with_name(f".{path.name}.part")
    sink = Sink(draft)
    try:
        yield sink
        if sink.close() != expected.sha256:
            raise GatewayUnavailable(f"the artifact {expected.name!r} arrived damaged", retryable=True)
        draft.replace(path)
    finally:
        sink.close()
        draft.unlink(missing_ok=True)


def named(artifacts: list[ArtifactView], name: str, job_id: str) -> ArtifactView:
    """The artifact of this name; raises NoArtifact with the names that there are."""
    for artifact in artifacts:
        if artifact.name == name:
            return artifact
    there = ", ".join(repr(artifact.name) for artifact in artifacts) or "none"
    raise NoArtifact(f"{job_id} has no artifact {name!r}; there are: {there}")


def decoded(artifact: ArtifactView, path: Path) -> Any:
    """The object in the file of an artifact; an array has memory of its own. Its code runs here: the job is our own.

    Raises NoArtifact for a file that no object was written to.
    """
    if artifact.media_type == NPY:
        return decode_array(path.read_bytes())
    if artifact.media_type == MEDIA_TYPE:
        from flaregate.fitted import load  # noqa: PLC0415 - needs scikit-learn

        return load(path, trust=True)
    try:
        return decode_data(artifact.media_type, path)
    except ValueError as error:
        raise NoArtifact(f"the artifact {artifact.name!r} is a file to download, not an object: {error}") from error
