"""Values that keep their type in JSON: tuples, non-finite floats, numpy scalars, imports, arrays, nested estimators."""

import re
from collections.abc import Callable, Iterator
from typing import Annotated

from pydantic import AfterValidator, JsonValue

IMPORT_PATH = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")
_SHA256 = re.compile(r"^sha256:[0-9a-f]{64}$")
_PAIR = 2
_NON_FINITE = ("nan", "inf", "-inf")


def _is_estimator(body: JsonValue) -> bool:
    return (
        isinstance(body, dict)
        and isinstance(body.get("import"), str)
        and bool(IMPORT_PATH.match(str(body["import"])))
        and isinstance(body.get("params", {}), dict)
        and set(body) <= {"import", "params"}
    )


def _is_sha256(body: JsonValue) -> bool:
    return isinstance(body, str) and bool(_SHA256.match(body))


def _is_payload(body: JsonValue) -> bool:
    return _is_sha256(body) or (isinstance(body, list) and len(body) == _PAIR and all(map(_is_sha256, body)))


def _is_scalar(body: JsonValue) -> bool:
    if not (isinstance(body, list) and len(body) == _PAIR and isinstance(body[0], str) and body[0].isalnum()):
        return False
    number = body[1]
    return isinstance(number, bool | int | float | str) or tag_of(number) == "$float"


_TAGS: dict[str, Callable[[JsonValue], bool]] = {
    "$tuple": lambda body: isinstance(body, list),
    "$float": lambda body: body in _NON_FINITE,
    "$scalar": _is_scalar,
    "$import": lambda body: isinstance(body, str) and bool(IMPORT_PATH.match(body)),
    "$array": _is_sha256,
    "$payload": _is_payload,
    "$node": _is_estimator,
    "$dict": lambda body: isinstance(body, list) and all(isinstance(p, list) and len(p) == _PAIR for p in body),
}
"""`$tuple` a list of values; `$float` a non-finite float; `$scalar` `[dtype, value]` of numpy; `$import`
`module:name`; `$array` a staged blob; `$payload` one of opaque bytes, or `[blob, digest of what it does]`; `$node` a
nested estimator `{"import", "params"}`; `$dict` pairs, for keys that are not plain strings."""


def _children(value: JsonValue) -> Iterator[JsonValue]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def tag_of(value: JsonValue) -> str | None:
    """The tag (`$tuple` …) of a tagged value, or None for plain JSON."""
    if isinstance(value, dict) and len(value) == 1:
        (key,) = value
        if key.startswith("$"):
            return key
    return None


def check_value(value: JsonValue) -> JsonValue:
    """Accept plain JSON and well-formed tagged values; raise ValueError naming the tag and the rule otherwise."""
    stack: list[JsonValue] = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            tags = [key for key in item if key.startswith("$")]
            if tags and len(item) > 1:
                msg = f"a tagged value has one key, this one has {sorted(item)}"
                raise ValueError(msg)
            if tags and tags[0] not in _TAGS:
                msg = f"unknown tag {tags[0]!r}; known are {', '.join(_TAGS)}"
                raise ValueError(msg)
            if tags and not _TAGS[tags[0]](item[tags[0]]):
                msg = f"{tags[0]} does not fit its rule: {str(item[tags[0]])[:80]!r}"
                raise ValueError(msg)
        stack.extend(_children(item))
    return value


def blobs_of(value: JsonValue) -> Iterator[str]:
    """Every staged blob (`sha256:…`) that a value refers to."""
    stack: list[JsonValue] = [value]
    while stack:
        item = stack.pop()
        tag = tag_of(item)
        if tag in ("$array", "$payload") and isinstance(item, dict):
            yield payload_of(item[tag])
        else:
            stack.extend(_children(item))


def number_of(value: JsonValue) -> float | None:
    """The number that a value is, numpy's and non-finite ones too; None for what is none."""
    tag = tag_of(value)
    if isinstance(value, dict) and tag == "$scalar":
        body = value[tag]
        return number_of(body[1]) if isinstance(body, list) else None
    if isinstance(value, dict) and tag == "$float":
        return float(str(value[tag]))
    return float(value) if isinstance(value, int | float) else None


def imports_of(value: JsonValue) -> Iterator[str]:
    """Every import path that a value names."""
    stack: list[JsonValue] = [value]
    while stack:
        item = stack.pop()
        tag = tag_of(item)
        if isinstance(item, dict) and tag == "$import":
            yield str(item[tag])
        elif isinstance(item, dict) and tag == "$node" and isinstance(item[tag], dict):
            yield str(item[tag]["import"])  # type: ignore[index,call-overload]
        stack.extend(_children(item))


def payload_of(body: JsonValue) -> str:
    """The blob that `$array` or `$payload` names."""
    return str(body[0] if isinstance(body, list) else body)


def identity(value: JsonValue) -> JsonValue:
    """The value as digests see it: a payload counts by what it does where that is known, else by its bytes."""
    if isinstance(value, list):
        return [identity(item) for item in value]
    if not isinstance(value, dict):
        return value
    body = value.get("$payload")
    if isinstance(body, list):
        return {"$payload": body[1]}
    return {key: identity(item) for key, item in value.items()}


Value = Annotated[JsonValue, AfterValidator(check_value)]
"""A JSON value in which `{"$tag": …}` keeps the types that JSON has not."""
