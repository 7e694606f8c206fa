"""Typed values: Python objects as JSON that keeps their type (flaregate_wire.values), and back."""

import math
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import JsonValue

from flaregate.code_digest import Look, Opaque, look
from flaregate.imports import import_path, resolve
from flaregate.payload import Staged, decode_array, encode_array, encode_payload, unpack
from flaregate_wire.values import payload_of, tag_of

Stage = Callable[[Staged], str]
"""Takes encoded bytes in and gives their `sha256:…`."""
Blobs = Callable[[str], bytes]
"""Gives the bytes of a staged blob."""

_SCALARS = frozenset({"bool", "str", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))})
_FLOATS = frozenset({"float16", "float32", "float64"})


def encode_value(obj: Any, stage: Stage) -> JsonValue:
    """Write any object as a typed value. Arrays and what has no better form are given to `stage`."""
    if obj is None or type(obj) in (bool, int, str):
        return obj  # type: ignore[no-any-return]
    if type(obj) is float:
        return obj if math.isfinite(obj) else {"$float": str(obj)}
    if type(obj) in (list, tuple):
        items: list[JsonValue] = [encode_value(item, stage) for item in obj]
        return {"$tuple": items} if type(obj) is tuple else items
    if type(obj) is dict:
        return _encode_dict(obj, stage)
    for encode in (_encode_numpy, _encode_import, _encode_estimator):
        value = encode(obj, stage)
        if value is not None:
            return value
    return _encode_opaque(obj, stage)


def _encode_opaque(obj: Any, stage: Stage) -> JsonValue:
    """A payload with the digest of what it does; without one where that cannot be seen, and it counts by its bytes."""
    item, seen = payload_of_code(obj)
    blob = stage(item)
    return {"$payload": blob if seen is None else [blob, seen.digest]}


def payload_of_code(obj: Any) -> tuple[Staged, Look | None]:
    """A payload with what its code needs, and what was seen of that; None where nothing can be seen."""
    item = encode_payload(obj)
    try:
        seen = look(obj)
    except Opaque:
        return item, None
    return replace(item, modules=seen.only_here, library="ray" if "ray" in seen.others else None), seen


def _encode_dict(obj: dict[Any, Any], stage: Stage) -> JsonValue:
    if all(type(key) is str and not key.startswith("$") for key in obj):
        return {key: encode_value(item, stage) for key, item in obj.items()}
    return {"$dict": [[encode_value(key, stage), encode_value(item, stage)] for key, item in obj.items()]}


def _encode_numpy(obj: Any, stage: Stage) -> JsonValue:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if type(obj) is numpy.ndarray and not obj.dtype.hasobject:
        return {"$array": stage(encode_array(obj))}
    if isinstance(obj, numpy.generic):
        name = type(obj).__name__.rstrip("_")
        if obj.dtype.name in _FLOATS or name in _SCALARS:
            return {"$scalar": [name, encode_value(obj.item(), stage)]}
    return None


def _encode_import(obj: Any, _: Stage) -> JsonValue:
    if not callable(obj):
        return None
    path = import_path(obj)
    return None if path is None else {"$import": path}


def _encode_estimator(obj: Any, stage: Stage) -> JsonValue:
    found = encode_object(obj, stage)
    return None if found is None else {"$node": {"import": found[0], "params": found[1]}}


def encode_object(obj: Any, stage: Stage) -> tuple[str, dict[str, JsonValue]] | None:
    """An estimator's import path and the parameters that differ from their defaults.

    None where the object decoded from these would not be the same in class, parameters and `__dict__`: fitted state,
    random state objects, set_output, metadata requests, classes and functions of the user's own.
    """
    if isinstance(obj, type) or not callable(getattr(obj, "get_params", None)):
        return None
    path = import_path(type(obj))
    if path is None:
        return None
    kept: dict[str, Staged] = {}

    def keep(item: Staged) -> str:
        kept[item.sha256] = item
        return item.sha256

    params = {name: encode_value(item, keep) for name, item in changed_params(obj).items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a deprecated class has warned the user already
            again = type(obj)(
                **{name: decode_value(item, lambda sha: kept[sha].read()) for name, item in params.items()}
            )
    except Exception:  # noqa: BLE001 - the class is the user's: whatever it raises, it does not round-trip
        return None
    if not same(obj, again):
        return None
    for item in kept.values():
        stage(item)
    return path, params


def changed_params(estimator: Any) -> dict[str, Any]:
    """An estimator's own parameters that are not what its class gives by default."""
    import inspect  # noqa: PLC0415 - slow to import, and needed only where there are estimators

    defaults = inspect.signature(type(estimator)).parameters
    return {
        name: value
        for name, value in estimator.get_params(deep=False).items()
        if name not in defaults or not same(value, defaults[name].default)
    }


def decode_value(value: JsonValue, blobs: Blobs) -> Any:
    """The object that a typed value stands for; imports what it names, unpickles payloads."""
    if isinstance(value, list):
        return [decode_value(item, blobs) for item in value]
    if not isinstance(value, dict):
        return value
    tag = tag_of(value)
    if tag is None:
        return {key: decode_value(item, blobs) for key, item in value.items()}
    return _DECODE[tag](value[tag], blobs)


def _decode_scalar(body: Any, blobs: Blobs) -> Any:
    import numpy as np  # noqa: PLC0415

    name, number = body
    return np.dtype(name).type(decode_value(number, blobs))


def _decode_node(body: Any, blobs: Blobs) -> Any:
    params = {name: decode_value(item, blobs) for name, item in body.get("params", {}).items()}
    return resolve(body["import"])(**params)


_DECODE: dict[str, Callable[[Any, Blobs], Any]] = {
    "$tuple": lambda body, blobs: tuple(decode_value(item, blobs) for item in body),
    "$float": lambda body, _: float(body),
    "$scalar": _decode_scalar,
    "$import": lambda body, _: resolve(body),
    "$array": lambda body, blobs: decode_array(blobs(body)),
    "$payload": lambda body, blobs: unpack(blobs(payload_of(body))),
    "$node": _decode_node,
    "$dict": lambda body, blobs: {decode_value(key, blobs): decode_value(item, blobs) for key, item in body},
}


def same(one: Any, other: Any) -> bool:
    """Whether two objects are of one type and hold the same; what cannot be looked into must be identical."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(same(item, other[key]) for key, item in one.items())
    if hasattr(one, "get_params") and hasattr(one, "__dict__"):
        return same(vars(one), vars(other))
    return _equal(one, other)


_PLAIN = (bool, int, str, bytes, complex, frozenset, set, slice)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, _PLAIN):
        return bool(one == other)
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return False
    if isinstance(one, numpy.generic):
        return bool(one == other) or bool(one != one and other != other)  # noqa: PLR0124 - not a number
    if type(one) is numpy.ndarray and one.dtype == other.dtype and not one.dtype.hasobject:
        return bool(numpy.array_equal(one, other, equal_nan=one.dtype.kind in "fc"))
    return False
