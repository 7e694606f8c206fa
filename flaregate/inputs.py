"""Inputs as users give them: local data to stage, or a data set that the worker loads."""

from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from flaregate.errors import Refused
from flaregate.payload import encode_data
from flaregate.values import Stage, encode_value
from flaregate_wire.definitions import Blob, Dataset, Input
from flaregate_wire.problems import Fault

_PARTS = {"X": "data", "y": "target", "groups": "groups"}


@dataclass(frozen=True, slots=True)
class DatasetRef:
    """What a loader in the worker's environment gives."""

    path: str
    part: str | None = None
    params: dict[str, Any] = field(default_factory=dict)


def dataset(path: str, *, part: str | None = None, **params: Any) -> DatasetRef:
    """A data set that the worker loads, e.g. `dataset("sklearn.datasets:load_digits")`.

    Args:
        path: `module:function` of the loader.
        part: Attribute or key of what the loader gives; by default `data` where it is given as X, `target` as y.
        **params: The loader's arguments.
    """
    return DatasetRef(path, part, params)


def encode_inputs(given: dict[str, Any], stage: Stage) -> dict[str, Input]:
    """The inputs on the wire; local data is given to `stage`. Raises Refused where numbers of rows differ."""
    found: dict[str, Input] = {}
    for name, data in given.items():
        if isinstance(data, DatasetRef):
            params = {key: encode_value(value, stage) for key, value in data.params.items()}
            try:
                found[name] = Dataset(dataset=data.path, params=params, part=data.part or _PARTS[name])
            except ValidationError as error:
                raise Refused.for_validation(error) from error
        elif data is not None:
            item = encode_data(data)
            stage(item)
            found[name] = Blob(blob=item.sha256, media_type=item.media_type, size=item.size, shape=item.shape)
    _check_rows(found)
    return found


def _check_rows(inputs: dict[str, Input]) -> None:
    rows = {name: item.shape[0] for name, item in inputs.items() if isinstance(item, Blob) and item.shape}
    if len(set(rows.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in rows.items())
        message = f"the inputs have different numbers of rows: {listed}"
        raise Refused(message, errors=[Fault(pointer="/inputs", rule="rows", message=message)])
