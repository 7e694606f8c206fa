"""The file of a fitted pipeline: a stored zip of a manifest and one pickled state a node. Needs no scikit-learn."""

import json
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import IO, Any, Literal

from pydantic import Field, ValidationError

from flaregate import versions
from flaregate.errors import FlaregateError, Refused
from flaregate.parts import combine, passed_on
from flaregate.payload import pack, unpack
from flaregate_wire.digests import digest_bytes
from flaregate_wire.model import PeerModel, Sha256
from flaregate_wire.problems import Code

MEDIA_TYPE = "application/x-flaregate-pipeline"
FORMAT = 1
_MANIFEST = "manifest.json"

Kind = Literal["estimator", "function", "join"]
File = str | PathLike[str] | IO[bytes]


@dataclass(frozen=True, slots=True)
class FittedNode:
    """One node of a fitted path: the fitted estimator, the function with its parameters bound, or how parts combine."""

    name: str
    kind: Kind
    inputs: tuple[str, ...]
    """Nodes of this path that feed it, in column order; none for one that takes X."""
    state: Any = None
    """None for a join that puts columns side by side."""
    stack_method: str = "auto"
    """What an estimator in the middle that has no `transform` passes on."""

    def output(self, parts: Sequence[Any]) -> Any:
        """What the node gives to the next one for new rows."""
        if self.kind == "join":
            return combine(parts, self.inputs) if self.state is None else self.state(list(parts))
        (part,) = parts
        if self.kind == "function":
            return self.state(part)
        return passed_on(self.state, part, method=self.stack_method)


class CorruptFile(FlaregateError):
    """The file of a fitted pipeline is not what was written."""


class VersionWarning(UserWarning):
    """A fitted pipeline was made with other minor versions."""


class NodeEntry(PeerModel):
    """What the manifest says of one node."""

    name: str
    kind: Kind
    inputs: tuple[str, ...]
    stack_method: str = "auto"
    state: str | None = Field(default=None, description="Name of the zip's member.")
    sha256: Sha256 | None = None
    size: int = 0


class FileManifest(PeerModel):
    """What is in the file. Reading it unpickles nothing."""

    format: int
    versions: dict[str, str]
    nodes: tuple[NodeEntry, ...] = Field(min_length=1)


def write(path: File, nodes: Sequence[FittedNode]) -> None:
    """Write the fitted nodes of one path, predecessors first. The file holds no time."""
    entries = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for number, node in enumerate(nodes):
            entry = NodeEntry(name=node.name, kind=node.kind, inputs=node.inputs, stack_method=node.stack_method)
            if node.state is not None:
                data = pack(node.state)
                member = f"states/{number}.pkl"
                file.writestr(zipfile.ZipInfo(member), data)
                entry = entry.model_copy(update={"state": member, "sha256": digest_bytes(data), "size": len(data)})
            entries.append(entry)
        manifest = FileManifest(format=FORMAT, versions=versions.here(), nodes=tuple(entries))
        file.writestr(zipfile.ZipInfo(_MANIFEST), manifest.model_dump_json(indent=1))


def manifest_of(path: File) -> FileManifest:
    """The manifest alone: nodes, sizes, versions."""
    try:
        with zipfile.ZipFile(path) as file:
            return _manifest(file)
    except zipfile.BadZipFile as error:
        raise CorruptFile(f"this is not the file of a fitted pipeline: {error}") from error


def read(path: File, *, trust: bool = False, found: Mapping[str, str] | None = None) -> tuple[FittedNode, ...]:
    """The fitted nodes of a file.

    Args:
        path: Where the file is, or an open binary file that can seek.
        trust: Whether code of whoever wrote the file may run here: unpickling runs code.
        found: The versions to compare with; by default those of this process' environment.

    Raises:
        CorruptFile: The file is cut or changed.
        Refused: It needs trust, or versions with which unpickling is not safe.
    """
    try:
        with zipfile.ZipFile(path) as file:
            manifest = _manifest(file)
            states = [_state(file, entry) for entry in manifest.nodes]
    except zipfile.BadZipFile as error:
        raise CorruptFile(f"this is not the file of a fitted pipeline: {error}") from error
    _check_versions(manifest, versions.here() if found is None else found)
    if not trust:
        message = (
            "loading a fitted pipeline runs code of whoever wrote it; if that is someone you trust, say trust=True"
        )
        raise Refused(message, code=Code.INVALID_REQUEST)
    return tuple(
        FittedNode(entry.name, entry.kind, entry.inputs, None if data is None else unpack(data), entry.stack_method)
        for entry, data in zip(manifest.nodes, states, strict=True)
    )


def _manifest(file: zipfile.ZipFile) -> FileManifest:
    try:
        data = file.read(_MANIFEST)
        if (number := json.loads(data).get("format")) != FORMAT:
            raise Refused(f"the file has format {number}, this version reads {FORMAT}", code=Code.INVALID_REQUEST)
        return FileManifest.model_validate_json(data)
    except (KeyError, ValidationError, ValueError, AttributeError) as error:
        raise CorruptFile(f"the manifest cannot be read: {error}") from error


def _state(file: zipfile.ZipFile, entry: NodeEntry) -> bytes | None:
    if entry.state is None:
        return None
    try:
        size = file.getinfo(entry.state).file_size
        data = file.read(entry.state) if size == entry.size else b""
    except KeyError as error:
        raise CorruptFile(f"the state of node {entry.name!r} is missing") from error
    if digest_bytes(data) != entry.sha256:
        raise CorruptFile(f"the state of node {entry.name!r} is not what was written")
    return data


def _check_versions(manifest: FileManifest, found: Mapping[str, str]) -> None:
    unsafe = versions.broken(manifest.versions, found)
    if unsafe:
        message = f"the pipeline was fitted with {', '.join(unsafe)}; load it in an environment like that one"
        raise Refused(message, code=Code.ENVIRONMENT_MISMATCH)
    doubt = versions.doubtful(manifest.versions, found)
    if doubt:
        warnings.warn(f"the pipeline was fitted with {', '.join(doubt)}", VersionWarning, stacklevel=4)
