"""Where artifacts go: a file that is whole or not there, checked against its sum; a later try ends what one has begun.

The store is asked for ranges, several at once where there are many. What has come is in a file beside the target,
always from the first byte on without a gap, so that its size says where to go on.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from flaregate.bars import bar
from flaregate.errors import GatewayUnavailable, NoArtifact, Refused
from flaregate.fitted_file import MEDIA_TYPE
from flaregate.payload import NPY, decode_array, decode_data
from flaregate.transport import calls
from flaregate.transport.links import Flow
from flaregate_wire.jobs import ArtifactView

PIECE = 8 * 1024 * 1024
"""Bytes of one range."""
FEW = 64 * 1024 * 1024
"""Up to here one range at a time."""
AT_ONCE = 8
"""Ranges that are asked for together; they are held until they can be written in order."""
_PARTIAL = 206


class Part:
    """What has come of one artifact."""

    def __init__(self, path: Path, expected: ArtifactView, shown: Callable[[int], None] = lambda _: None) -> None:
        """Take up what an earlier try has left."""
        self._path = path
        self._expected = expected
        self._shown = shown
        self._sum = hashlib.sha256()
        self.size = 0
        self._draft = path.with_name(f".{path.name}.{expected.sha256[7:19]}.part")
        self._file = self._draft.open("r+b" if self._draft.exists() else "x+b")
        while piece := self._file.read(min(PIECE, expected.size - self.size)):
            self._take(piece)
        self._file.seek(self.size)
        self._file.truncate()

    def _take(self, piece: bytes) -> None:
        self._sum.update(piece)
        self.size += len(piece)
        self._shown(self.size)

    def write(self, piece: bytes) -> None:
        """The next bytes."""
        self._file.write(piece)
        self._take(piece)

    def finish(self) -> None:
        """Make it the file, if the bytes are the ones expected; raises GatewayUnavailable."""
        self._file.close()
        if f"sha256:{self._sum.hexdigest()}" != self._expected.sha256:
            self._draft.unlink()
            raise GatewayUnavailable(f"the artifact {self._expected.name!r} arrived damaged", retryable=True)
        self._draft.replace(self._path)

    def close(self) -> None:
        """Leave it to a later try, if anything has come."""
        self._file.close()
        if not self.size:
            with suppress(FileNotFoundError):
                self._draft.unlink()


@contextmanager
def into(path: Path, expected: ArtifactView) -> Iterator[Part]:
    """A part that becomes the file at `path`; on a terminal a bar shows how far it is."""
    with bar(expected.name, expected.size) as shown:
        part = Part(path, expected, shown)
        try:
            yield part
            part.finish()
        finally:
            part.close()


def downloading(job_id: str, artifact: ArtifactView, part: Part) -> Flow[None]:
    """Fetch what is missing. Where a URL is refused, another one is asked for: it was too old."""
    url = ""
    tried = -1
    while part.size < artifact.size:
        if not url:
            answer = yield calls.artifact(job_id, artifact.name)
            url, tried = _location(answer), part.size
        try:
            answers = yield tuple(_ranges(url, part.size, artifact.size))
        except Refused:
            if tried == part.size:  # it is a new one
                raise
            url = ""
            continue
        for answer in answers:
            part.write(_content(answer, part.size, artifact))


def _location(answer: httpx.Response) -> str:
    """Where the store has it."""
    place = answer.headers.get("location")
    if place is None:
        raise GatewayUnavailable(f"{answer.request.url} does not say where the artifact is", retryable=False)
    return str(answer.request.url.join(place))


def _ranges(url: str, start: int, size: int) -> Iterator[calls.Call]:
    for _ in range(AT_ONCE if size > FEW else 1):
        if start < size:
            stop = min(start + PIECE, size)
            yield calls.fetch(url, None if size <= PIECE and not start else (start, stop))
            start = stop


def _content(answer: httpx.Response, start: int, artifact: ArtifactView) -> bytes:
    """The bytes from `start` on; raises GatewayUnavailable where they are others."""
    whole = answer.status_code != _PARTIAL and not start and len(answer.content) == artifact.size
    if whole or answer.headers.get("content-range", "").startswith(f"bytes {start}-"):
        return answer.content
    if answer.status_code != _PARTIAL and not start:
        raise GatewayUnavailable(f"the artifact {artifact.name!r} arrived damaged", retryable=True)
    raise GatewayUnavailable(f"the store does not give the range of {artifact.name!r} from {start}", retryable=False)


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
