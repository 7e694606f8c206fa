"""Nodes, scorers and splitters as data: declarative where that round-trips, an opaque payload where not; and back."""

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

from pydantic import JsonValue

from flaregate.code_digest import Look, Opaque, look
from flaregate.errors import Refused
from flaregate.imports import import_path, resolve
from flaregate.origin import release_of
from flaregate.payload import CannotPack, unpack
from flaregate.signatures import estimator_signature, function_signature
from flaregate.values import Blobs, Stage, decode_value, encode_object, encode_value, payload_of_code
from flaregate_wire.definitions import Code, EstimatorNode, FunctionNode
from flaregate_wire.values import tag_of

__all__ = [
    "build",
    "check_runnable",
    "decode_value",
    "encode_code",
    "encode_node",
    "encode_value",
    "is_estimator",
]


def encode_code(obj: Any, stage: Stage) -> Code:
    """A class, function, estimator, scorer or splitter as code to import or unpickle."""
    return Code.model_validate(_source(obj, stage))


def is_estimator(obj: Any) -> bool:
    """Whether an object has something of the scikit-learn contract."""
    return not isinstance(obj, type) and any(hasattr(obj, method) for method in ("fit", "transform", "fit_transform"))


def check_runnable(name: str, obj: Any) -> None:
    """Raise Refused for what can be no node: a class, or neither an estimator nor a function."""
    if isinstance(obj, type):
        raise Refused(f"node {name!r}: {obj.__name__} is a class; give an object of it, {obj.__name__}(…)")
    if not is_estimator(obj) and not callable(obj):
        raise Refused(f"node {name!r}: {type(obj).__name__} is neither an estimator nor a function")


def encode_node(name: str, obj: Any, stage: Stage) -> EstimatorNode | FunctionNode:
    """A node with its signature; raises Refused for what is neither an estimator nor a function."""
    check_runnable(name, obj)
    try:
        source = _source(obj, stage)
    except CannotPack as error:
        raise Refused(f"node {name!r}: {error}") from error
    shared = {"name": name, **source}
    if is_estimator(obj):
        return EstimatorNode.model_validate({**shared, "kind": "estimator", "signature": estimator_signature(obj)})
    return FunctionNode.model_validate({**shared, "kind": "function", "signature": function_signature(obj)})


def _source(obj: Any, stage: Stage) -> dict[str, Any]:
    declared = _declared(obj, stage)
    if declared is None:
        item, seen = payload_of_code(obj)
        source: dict[str, Any] = {"payload": stage(item)}
    else:
        source, seen = declared, _seen(obj)
    if seen is None:
        return {**source, "code": _releases(source)}
    by_content = declared is None or seen.only_here
    return {**source, "code": seen.digest if by_content else _releases(source), "only_here": seen.only_here}


def _seen(obj: Any) -> Look | None:
    try:
        return look(obj)
    except Opaque:
        return None


def _declared(obj: Any, stage: Stage) -> dict[str, Any] | None:
    path = import_path(obj)
    if path is not None:
        return {"import": path}
    found = encode_object(obj, stage) or _encode_splitter(obj, stage)
    return None if found is None else {"import": found[0], "params": found[1]}


def _encode_splitter(obj: Any, stage: Stage) -> tuple[str, dict[str, JsonValue]] | None:
    """scikit-learn's splitters have no get_params; their attributes are their parameters."""
    path = import_path(type(obj))
    if path is None or not path.startswith("sklearn.model_selection:") or not hasattr(obj, "get_n_splits"):
        return None
    attributes = dict(vars(obj))
    attributes.update(attributes.pop("cvargs", {}))
    names = [name for name in inspect.signature(type(obj)).parameters if name in attributes]
    simple = all(isinstance(attributes[name], int | float | str | None) for name in names)
    return (path, {name: encode_value(attributes[name], stage) for name in names}) if simple else None


def _imports(value: JsonValue) -> Iterator[str]:
    if isinstance(value, dict):
        if tag_of(value) == "$import":
            yield str(value["$import"])
        if isinstance(value.get("import"), str):
            yield str(value["import"])
        for item in value.values():
            yield from _imports(item)
    elif isinstance(value, list):
        for item in value:
            yield from _imports(item)


def _releases(source: dict[str, Any]) -> str | None:
    """The installed distributions whose code declared source runs; None for a payload."""
    releases = {release_of(path.partition(".")[0].partition(":")[0]) for path in _imports(source)}
    return ", ".join(sorted(release for release in releases if release)) or None


def build(code: Code, blobs: Blobs) -> Any:
    """The object that code stands for. A class or factory is called with its parameters, a function gets them bound."""
    params = {name: decode_value(value, blobs) for name, value in code.params.items()}
    if code.payload is not None:
        obj = unpack(blobs(code.payload))
        return obj.set_params(**params) if params else obj
    target = resolve(code.import_ or "")
    if isinstance(target, type) or isinstance(code, EstimatorNode):
        return target(**params)
    return partial(target, **params) if params else target
