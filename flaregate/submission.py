"""From the arguments of `submit` to a checked definition and the bytes to stage: no I/O."""

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import nan
from typing import Any, Literal

from pydantic import JsonValue, ValidationError

from flaregate import versions
from flaregate.axes import Axes, OwnAxes, resolve_axes
from flaregate.errors import Refused
from flaregate.folds import resolve_cv, resolve_scoring
from flaregate.inputs import encode_inputs
from flaregate.payload import CLOUDPICKLE, Staged
from flaregate.pipelines import Pipeline
from flaregate.values import Stage, encode_value
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.planning import faults

_FINGERPRINT = ("python", "cloudpickle", "scikit-learn", "numpy")


@dataclass(frozen=True, slots=True)
class Submission:
    """What is to be sent."""

    definition: JobDefinition
    blobs: Mapping[str, Staged] = field(default_factory=dict)
    """Every blob of the definition that is made here, by sha256."""
    own: OwnAxes = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """The arguments of `submit` beside the pipeline; every one has SDK.md's name and default.

    Args:
        action: `fit`, `cross_validate` or `search`; by default `search` where there are axes, else `fit`.
        X: Rows; arrays, sparse matrices, frames, lists, or `dataset(…)`.
        y: Targets, one a row.
        groups: Groups for splitters that need them, one a row.
        axes: From `node__parameter` or (node, parameter) to a list of values.
        cv: None (5 folds), a number, a splitter, or an iterable of (train, test) index arrays.
        scoring: None (the last node's score), a name, a callable, a list of names, or a dict.
        refit: Whether a search fits the best candidate on all rows; with several scorers the name of one.
        strategy: How candidates are drawn from the axes.
        return_train_score: Whether training folds are scored too.
        error_score: The score of a failed fold, or `raise`.
        cache: `on`, `off` or `read`.
        workers: Containers beside the head; None lets the gateway choose.
        min_workers: Workers to wait for before the first task.
        cpus: vCPU of each container.
        memory: Bytes of each container.
        gpus: GPUs of each container.
        topology: `auto`, `single` (head alone) or `cluster`.
        timeout: Seconds from the first launch.
        max_cost: Decimal amount and currency, `0.50 USD`.
        retries: New attempts after faults of the infrastructure.
        labels: Free words to find the job by.
        project: With the tenant, the scope within which results are shared.
    """

    action: str | None = None
    X: Any = None
    y: Any = None
    groups: Any = None
    axes: Axes | None = None
    cv: Any = None
    scoring: Any = None
    refit: bool | str = True
    strategy: str = "grid"
    return_train_score: bool = False
    error_score: Any = nan
    cache: Literal["on", "off", "read"] = "on"
    workers: int | None = None
    min_workers: int = 0
    cpus: float | None = None
    memory: int | None = None
    gpus: int = 0
    topology: Literal["auto", "single", "cluster"] = "auto"
    timeout: float | None = None
    max_cost: str | None = None
    retries: int | None = None
    labels: Mapping[str, str] | None = None
    project: str = "default"


def prepare(pipe: Pipeline, options: JobOptions) -> Submission:
    """A definition without faults, and what to stage for it. Raises Refused with the node and the rule."""
    if not isinstance(pipe, Pipeline):
        raise Refused(f"the first argument is a {type(pipe).__name__}, not a flaregate.Pipeline")
    pipeline, blobs = pipe.encoded()

    def stage(item: Staged) -> str:
        blobs[item.sha256] = item
        return item.sha256

    axes, own = resolve_axes(options.axes, pipeline, stage)
    data = {"X": options.X, "y": options.y, "groups": options.groups}
    action = options.action or ("search" if options.axes else "fit")
    body: dict[str, Any] = {
        "pipeline": pipeline,
        "action": action,
        "project": options.project,
        "inputs": encode_inputs(data, stage),
        "axes": axes,
        "cv": None if action == "fit" or options.X is None else resolve_cv(options.cv, data, stage),
        "scoring": resolve_scoring(options.scoring, stage),
        "refit": options.refit,
        "error_score": encode_value(options.error_score, stage),
        "return_train_score": options.return_train_score,
        "strategy": options.strategy,
        "cache": options.cache,
        "config": _changed_config(stage),
        "labels": dict(options.labels or {}),
        "resources": {
            name: getattr(options, name) for name in ("workers", "min_workers", "cpus", "memory", "gpus", "topology")
        },
        "limits": {
            name: getattr(options, name)
            for name in ("timeout", "max_cost", "retries")
            if getattr(options, name) is not None
        },
        "environment": _environment(blobs),
    }
    definition = checked(body)
    return Submission(definition, {sha: blobs[sha] for sha in definition.blobs() if sha in blobs}, own)


def checked(body: Mapping[str, Any]) -> JobDefinition:
    """The definition of a body; raises Refused with every mistake and its place."""
    try:
        definition = JobDefinition.model_validate(body)
    except ValidationError as error:
        raise Refused.for_validation(error) from error
    refuse(definition)
    return definition


def refuse(definition: JobDefinition) -> None:
    """Raise Refused if the definition breaks a rule."""
    found: Sequence[Any] = faults(definition)
    if found:
        raise Refused.for_faults(found)


def _environment(blobs: Mapping[str, Staged]) -> dict[str, str]:
    """The versions that unpickling needs, where anything is pickled."""
    if not any(item.media_type == CLOUDPICKLE for item in blobs.values()):
        return {}
    return {name: found for name, found in versions.here().items() if name in _FINGERPRINT}


def _changed_config(stage: Stage) -> dict[str, JsonValue]:
    """This thread's scikit-learn configuration, as far as it is not what another thread starts with."""
    if "sklearn" not in sys.modules:
        return {}
    from sklearn import get_config  # noqa: PLC0415 - only where the user has imported it

    with ThreadPoolExecutor(1) as fresh:
        defaults = fresh.submit(get_config).result()
    return {name: encode_value(value, stage) for name, value in get_config().items() if value != defaults[name]}
