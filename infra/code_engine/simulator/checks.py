"""What of a job's or a job run's JSON Code Engine refuses, and what a run is once nothing is. No I/O."""

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from infra.code_engine.simulator.limits import (
    EPHEMERAL_BYTES,
    EXECUTION_SECONDS,
    MODES,
    NAME,
    NAME_LENGTH,
    RETRIES,
    SIZES,
    indices_of,
    size_of,
)

T = TypeVar("T")
_TYPES: dict[str, type] = {
    "name": str,
    "job_name": str,
    "image_reference": str,
    "image_secret": str,
    "run_arguments": list,
    "run_as_user": int,
    "run_commands": list,
    "run_compute_resource_token_enabled": bool,
    "run_env_variables": list,
    "run_mode": str,
    "run_service_account": str,
    "run_volume_mounts": list,
    "scale_array_size_variable_override": int,
    "scale_array_spec": str,
    "scale_cpu_limit": str,
    "scale_ephemeral_storage_limit": str,
    "scale_max_execution_time": int,
    "scale_memory_limit": str,
    "scale_retry_limit": int,
}
_OWN_OF_TEMPLATE = ("image_secret", "run_service_account")
_OF_TASKS = ("scale_max_execution_time", "scale_retry_limit")
_KINDS = {"secret": "secrets", "config_map": "config maps"}


class Refused(Exception):
    """An answer in the API's form of an error."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


@dataclass(frozen=True, slots=True)
class Order:
    """A job run that is not refused."""

    name: str
    body: Mapping[str, Any]
    """The run's own fields over those of its job, as the API shows them."""
    indices: Sequence[int]
    size: tuple[float, int]
    """vCPU and bytes of memory of each instance."""
    retries: int | None
    """None: for ever."""
    seconds: float | None
    """None: for ever."""
    environment: Mapping[str, str]
    command: Sequence[str]


Kept = Mapping[str, Mapping[str, Mapping[str, str]]]
"""The contents of what variables may refer to: by kind (`secret`, `config_map`), by name."""


def job(body: Mapping[str, Any], kept: Kept) -> Mapping[str, Any]:
    """A job that runs may be made of. Raises Refused."""
    if "image_reference" not in body:
        raise Refused(400, "missing_image", "image_reference: a job has to have one")
    order(body, {}, kept)
    return {key: value for key, value in body.items() if key != "name"}


def order(body: Mapping[str, Any], template: Mapping[str, Any], kept: Kept) -> Order:
    """What is to be run, of a run's JSON and its job's. Raises Refused."""
    for field, kind in _TYPES.items():
        if field in body and type(body[field]) is not kind:
            raise Refused(400, "invalid_field", f"{field}: {body[field]!r} is no {kind.__name__}")
    if "job_name" in body:
        wrong = [field for field in _OWN_OF_TEMPLATE if field in body]
        if wrong:
            raise Refused(400, "invalid_template_override", f"{', '.join(wrong)}: not where job_name is set")
    elif "image_reference" not in body:
        raise Refused(400, "missing_image", "give job_name or image_reference")
    if body.get("run_volume_mounts"):
        raise Refused(400, "not_simulated", "run_volume_mounts: the simulator mounts nothing")
    mode = _mode(body, template)
    whole = {**template, **body}
    if mode == "daemon":
        whole = {key: value for key, value in whole.items() if key not in _OF_TASKS}
    variables = [*template.get("run_env_variables", ()), *body.get("run_env_variables", ())]
    return Order(
        name=_name(body),
        body={key: value for key, value in whole.items() if key != "name"} | {"run_mode": mode},
        indices=_read("scale_array_spec", whole.get("scale_array_spec", "0"), indices_of, "invalid_array_spec"),
        size=_size(whole),
        retries=_number(whole, "scale_retry_limit", 0, RETRIES) if mode == "task" else None,
        seconds=_number(whole, "scale_max_execution_time", 1, EXECUTION_SECONDS) if mode == "task" else None,
        environment={name: value for one in variables for name, value in _values(one, kept)},
        command=[*whole.get("run_commands", ()), *whole.get("run_arguments", ())],
    )


def _name(body: Mapping[str, Any]) -> str:
    name = str(body.get("name") or f"{body.get('job_name', 'run')}-{secrets.token_hex(3)}")
    if not re.fullmatch(NAME, name) or len(name) > NAME_LENGTH:
        raise Refused(400, "invalid_name", f"name: {name!r} is not up to {NAME_LENGTH} small letters, digits, hyphens")
    return name


def _mode(body: Mapping[str, Any], template: Mapping[str, Any]) -> str:
    mode = str(body.get("run_mode", template.get("run_mode", MODES[0])))
    if mode not in MODES:
        raise Refused(400, "invalid_run_mode", f"run_mode: {mode!r} is none of {', '.join(MODES)}")
    wrong = [field for field in _OF_TASKS if field in body]
    if mode == "daemon" and wrong:
        raise Refused(400, "invalid_run_mode", f"{', '.join(wrong)}: not where run_mode is daemon")
    return mode


def _number(body: Mapping[str, Any], field: str, least: int, default_and_most: tuple[int, int]) -> int:
    default, most = default_and_most
    value = int(body.get(field, default))
    if not least <= value <= most:
        raise Refused(400, "invalid_scale", f"{field}: {value} is not {least} to {most}")
    return value


def _size(body: Mapping[str, Any]) -> tuple[float, int]:
    cpus, text = body.get("scale_cpu_limit", "1"), body.get("scale_memory_limit", "4G")
    memory = _read("scale_memory_limit", text, size_of, "invalid_size")
    disk = EPHEMERAL_BYTES
    if "scale_ephemeral_storage_limit" in body:
        field = "scale_ephemeral_storage_limit"
        disk = _read(field, body[field], size_of, "invalid_size")
    if cpus not in SIZES or memory / 1e9 not in SIZES[cpus]:
        raise Refused(400, "invalid_cpu_memory", f"{cpus} vCPU with {text} is no combination that Code Engine has")
    if disk > max(memory, EPHEMERAL_BYTES):
        raise Refused(400, "invalid_storage", "scale_ephemeral_storage_limit: more than the memory")
    return float(cpus), memory


def _read(field: str, text: str, read: Callable[[str], T], code: str) -> T:
    try:
        return read(text)
    except ValueError as problem:
        raise Refused(400, code, f"{field}: {problem}") from problem


def _values(variable: Any, kept: Kept) -> list[tuple[str, str]]:
    """Names and values that one entry of run_env_variables gives."""
    known = variable if isinstance(variable, dict) else {}
    kind, _, part = str(known.get("type", "literal")).partition("_full_")
    if part:
        held = _held(known, kind, kept)
        return [(f"{known.get('prefix') or ''}{key}", value) for key, value in held.items()]
    kind, _, part = kind.partition("_key_")
    if part:
        held, key = _held(known, kind, kept), str(known.get("key"))
        if key not in held:
            raise Refused(
                400, "invalid_env_variable", f"run_env_variables: {known.get('reference')} has no key {key!r}"
            )
        return [(str(known.get("name") or key), held[key])]
    name, value = known.get("name"), known.get("value", "")
    if kind != "literal" or not isinstance(name, str) or not name or not isinstance(value, str):
        raise Refused(400, "invalid_env_variable", f"run_env_variables: {variable!r} has no type, name or value of use")
    return [(name, value)]


def _held(variable: Mapping[str, Any], kind: str, kept: Kept) -> Mapping[str, str]:
    """The contents of what a variable refers to."""
    name = str(variable.get("reference"))
    if kind not in _KINDS:
        raise Refused(400, "invalid_env_variable", f"run_env_variables: {variable.get('type')!r} is no type")
    if name not in kept[kind]:
        raise Refused(400, "invalid_reference", f"run_env_variables: {name!r} is none of the {_KINDS[kind]}")
    return kept[kind][name]
