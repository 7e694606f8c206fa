"""Inputs as users give them: local data to stage, what an earlier job left, or what a worker loads or reads itself."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from flaregate.errors import Refused
from flaregate.payload import NPY, encode_data
from flaregate.values import Stage, encode_value
from flaregate_wire.definitions import Artifact, Blob, Dataset, Input, SourceObject
from flaregate_wire.problems import Fault
from flaregate_wire.references import Reference

_PARTS = {"X": "data", "y": "target", "groups": "groups", "sample_weight": "sample_weight"}
_PAIR = 2


@dataclass(frozen=True, slots=True)
class DatasetRef:
    """What a loader in the worker's environment gives."""

    path: str
    part: str | None = None
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ref:
    """Bytes that the gateway has already: what a job left (`job:ID/name`), or a staged blob (`sha256:…`)."""

    address: str
    media_type: str | None = None

    @property
    def name(self) -> str:
        """The artifact's name."""
        return self.address.partition("/")[2]

    def on_wire(self, media_type: str = NPY) -> Blob | Artifact:
        """The same on the wire; of a blob, `media_type` is what it holds where the user has not said so."""
        if self.address.startswith("sha256:"):
            return Blob(blob=self.address, media_type=self.media_type or media_type)
        return Artifact(artifact=self.address)


REMOTE = (DatasetRef, Ref, Reference)
"""Data that this process does not have."""


def dataset(path: str, *, part: str | None = None, **params: Any) -> DatasetRef:
    """A data set that the worker loads, e.g. `dataset("sklearn.datasets:load_digits")`.

    Args:
        path: `module:function` of the loader.
        part: Attribute or key of what the loader gives; by default `data` where it is given as X, `target` as y.
        **params: The loader's arguments.
    """
    return DatasetRef(path, part, params)


def ref(
    address: str,
    *,
    media_type: str | None = None,
    format: str | None = None,  # noqa: A002 - the word that users know from pandas and pyarrow
    columns: Sequence[str] | None = None,
    column: str | None = None,
) -> Ref | Reference:
    """Data that is not here: what the gateway has already, or files to read where they lie.

    Args:
        address: `job:ID/artifact`, or `sha256:…` of staged bytes, as an input or as the fitted pipeline to apply;
            `s3://bucket/key`, `s3://bucket/folder/` for all files in it in the order of their names, or
            `https://host/file`, as an input.
        media_type: Of staged bytes: how they are written; by default .npy as data, the fitted pipeline's own file as
            a fitted pipeline.
        format: Of files: `parquet`, `csv`, `arrow` or `npy`; by default as the suffix says.
        columns: Of files: these columns alone, as a frame.
        column: Of files: this column alone, one value a row, so that X and y may be in one file.

    Raises:
        Refused: What is wrong with it, and what to do.
    """
    if re.fullmatch(r"job:[\w-]+/.+|sha256:[0-9a-f]{64}", address):
        if (format, columns, column) != (None, None, None):
            raise Refused(f"{address!r}: 'format', 'columns' and 'column' are for files; leave them out")
        return Ref(address, media_type)
    if "://" not in address:
        raise Refused(
            f"{address!r} is no reference; write 'job:ID/artifact', 'sha256:…' with 64 hexadecimal digits, "
            "'s3://bucket/key' or 'https://host/file'"
        )
    if media_type is not None:
        raise Refused(f"{address!r}: 'media_type' is for staged bytes; give 'format'")
    given = {"reference": address, "format": format, "columns": columns, "column": column}
    try:
        return Reference.model_validate(given)
    except ValidationError as error:
        raise Refused.for_validation(error) from error


def encode_inputs(given: Mapping[str, Any], stage: Stage) -> dict[str, Input]:
    """The inputs on the wire; local data is given to `stage`. Raises Refused where numbers of rows differ."""
    found = {name: _encode_input(name, data, stage) for name, data in given.items() if data is not None}
    _check_rows(found, "the inputs")
    return found


def encode_objects(objects: Mapping[str, Any] | None, stage: Stage) -> tuple[SourceObject, ...]:
    """Source objects on the wire: each is (X, y), or X alone."""
    found = []
    for name, given in (objects or {}).items():
        pair = given if isinstance(given, tuple) else (given,)
        if not 1 <= len(pair) <= _PAIR:
            message = f"the object {name!r} is a tuple of {len(pair)}; give (X, y), or X alone"
            raise Refused(message, errors=[Fault(pointer="/objects", rule="object", message=message)])
        parts = {
            part: _encode_input(part, data, stage) for part, data in zip("Xy", pair, strict=False) if data is not None
        }
        _check_rows(parts, f"X and y of {name!r}")
        try:
            found.append(SourceObject.model_validate({"name": name, **parts}))
        except ValidationError as error:
            raise Refused.for_validation(error) from error
    return tuple(found)


def _encode_input(name: str, data: Any, stage: Stage) -> Input:
    if isinstance(data, Reference):
        return data
    if isinstance(data, Ref):
        return data.on_wire()
    if isinstance(data, DatasetRef):
        params = {key: encode_value(value, stage) for key, value in data.params.items()}
        try:
            return Dataset(dataset=data.path, params=params, part=data.part or _PARTS[name])
        except ValidationError as error:
            raise Refused.for_validation(error) from error
    item = encode_data(data)
    stage(item)
    return Blob(blob=item.sha256, media_type=item.media_type, size=item.size, shape=item.shape)


def _check_rows(inputs: Mapping[str, Input], whose: str) -> None:
    rows = {name: item.shape[0] for name, item in inputs.items() if isinstance(item, Blob) and item.shape}
    if len(set(rows.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in rows.items())
        message = f"{whose} have different numbers of rows: {listed}"
        raise Refused(message, errors=[Fault(pointer="/inputs", rule="rows", message=message)])
