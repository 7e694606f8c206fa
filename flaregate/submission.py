"""From the arguments of `submit` to a checked definition and the bytes to stage: no I/O."""

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import JsonValue, ValidationError

from flaregate import candidates, subjects, versions
from flaregate.axes import OwnAxes, split_key
from flaregate.code_archive import archive
from flaregate.encoding import encode_code
from flaregate.errors import Refused
from flaregate.fitted_file import MEDIA_TYPE
from flaregate.folds import resolve_cv, resolve_scoring
from flaregate.inputs import encode_inputs, encode_objects
from flaregate.options import JobOptions
from flaregate.origin import pinned
from flaregate.payload import CLOUDPICKLE, Staged
from flaregate.requirements import Lock
from flaregate.values import Stage, encode_value
from flaregate_wire.definitions import (
    FITS,
    FOLDED,
    Action,
    Blob,
    Code,
    EstimatorNode,
    Halving,
    JobDefinition,
    PipelineDefinition,
)
from flaregate_wire.planning import faults, paths
from flaregate_wire.problems import Fault

__all__ = ["JobOptions", "Submission", "checked", "prepare", "refuse"]

_FINGERPRINT = ("python", "cloudpickle", "scikit-learn", "numpy")
_AS_GIVEN = (
    "blocks",
    "method",
    "best",
    "project",
    "return_train_score",
    "strategy",
    "fail_fast",
    "cache",
    "unseeded",
    "warm",
    "keep",
)
_RESOURCES = ("workers", "min_workers", "cpus", "memory", "gpus", "topology")
_LIMITS = ("timeout", "max_cost", "retries")


@dataclass(frozen=True, slots=True)
class Submission:
    """What is to be sent."""

    definition: JobDefinition
    blobs: Mapping[str, Staged] = field(default_factory=dict)
    """Every blob of the definition that is made here, by sha256."""
    own: OwnAxes = field(default_factory=dict)

    def warmed(self, seconds: float) -> "Submission":
        """The same with a head that waits for the next job, unless the definition says for how long."""
        warm = self.definition.warm or seconds
        return replace(self, definition=self.definition.model_copy(update={"warm": warm}))


def prepare(subject: Any, options: JobOptions) -> Submission:
    """A definition without faults, and what to stage for it. Raises Refused with the node and the rule.

    Args:
        subject: A Pipeline; or a function or something fitted, as flaregate.subjects.encoded says.
        options: All else.
    """
    lock = options.requirements
    with pinned(lock.pins() if isinstance(lock, Lock) else None):
        return _prepared(subject, options)


def _prepared(subject: Any, options: JobOptions) -> Submission:
    pipeline, blobs = subjects.encoded(subject, options.acts, options.method)

    def stage(item: Staged) -> str:
        blobs[item.sha256] = item
        return item.sha256

    chosen = candidates.resolve(
        options.axes, pipeline, stage, drawing=_drawing(options), bare=options.acts == Action.SWEEP
    )
    data = {name: getattr(options, name) for name in ("X", "y", "groups", "sample_weight")}
    body: dict[str, Any] = {
        **{name: getattr(options, name) for name in _AS_GIVEN},
        "pipeline": pipeline,
        "action": options.acts,
        "inputs": encode_inputs(data, stage),
        "objects": encode_objects(options.objects, stage),
        "fit_params": _fit_params(options.fit_params, stage),
        "axes": chosen.axes,
        "samples": chosen.samples,
        "cv": _cv(options, data, stage),
        "scoring": resolve_scoring(options.scoring, stage),
        "refit": _refit(options.refit, stage),
        "halving": _halving(options, pipeline) if options.strategy == "halving" else None,
        "error_score": encode_value(options.error_score, stage),
        "config": _changed_config(stage),
        "labels": dict(options.labels or {}),
        "resources": {name: getattr(options, name) for name in _RESOURCES},
        "limits": {name: getattr(options, name) for name in _LIMITS if getattr(options, name) is not None},
        "environment": _environment(blobs),
    }
    body |= {"requirements": _requirements(options.requirements, stage)}
    definition = _with_code(checked(body), blobs)
    _check_weights(subject, options, definition)
    return Submission(definition, {sha: blobs[sha] for sha in definition.blobs() if sha in blobs}, chosen.own or {})


def _check_weights(subject: Any, options: JobOptions, definition: JobDefinition) -> None:
    """Refuse weights that scikit-learn's metadata routing takes nowhere, or that someone has not said to want."""
    if options.sample_weight is None or options.acts not in FITS or "sklearn" not in sys.modules:
        return
    from flaregate.routing import check_weights, routing  # noqa: PLC0415 - only where the user has imported scikit-learn

    if routing():
        nodes = definition.pipeline.nodes
        scores = options.acts in FOLDED or options.return_train_score
        scored = {path.leaf for path in paths(definition.pipeline)} if scores else ()
        known = subject.estimators()
        every = all(node.name in known for node in nodes if isinstance(node, EstimatorNode))
        check_weights(known, scored, options.scoring, all_known=every)


def _requirements(given: Any, stage: Stage) -> dict[str, Any] | None:
    if given is None:
        return None
    if not isinstance(given, Lock):
        raise Refused("requirements are locked for the gateway's workers: submit with a client", code="invalid_request")
    item = given.staged()
    stage(item)
    return {"blob": item.sha256, "media_type": item.media_type, "size": item.size, "packages": given.packages}


def _with_code(definition: JobDefinition, blobs: dict[str, Staged]) -> JobDefinition:
    """With the archive of the modules that only this machine has, where its code imports any."""
    modules = _only_here(definition.model_dump(mode="json"))
    packed = archive(modules.union(*(blobs[sha].modules for sha in definition.blobs() if sha in blobs)))
    if packed is None:
        return definition
    blobs[packed.sha256] = packed
    blob = Blob(blob=packed.sha256, media_type=packed.media_type, size=packed.size)
    return definition.model_copy(update={"code": blob})


def _only_here(part: Any) -> set[str]:
    """The modules that pieces of code in a definition say that only this machine has."""
    if isinstance(part, dict):
        return {*part.get("only_here", ())}.union(*map(_only_here, part.values()))
    return set[str]().union(*map(_only_here, part)) if isinstance(part, list) else set()


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


def _drawing(options: JobOptions) -> candidates.Drawing | None:
    """How candidates are drawn, where they are: by strategy `random`, and from distributions before `halving`."""
    if options.strategy == "random" or (options.strategy == "halving" and candidates.draws(options.axes)):
        if options.n_iter < 1:
            message = f"n_iter is {options.n_iter}; draw one candidate at least"
            raise Refused(message, errors=[Fault(pointer="/samples", rule="n_iter", message=message)])
        return candidates.Drawing(options.n_iter, options.random_state)
    return None


def _halving(options: JobOptions, pipeline: PipelineDefinition) -> Halving:
    own = options.resource == "n_samples"
    node, param = (None, None) if own else split_key(options.resource, pipeline)
    try:
        return Halving(
            factor=options.factor,
            resource="n_samples" if own else f"{node}__{param}",
            resource_node=node,
            resource_param=param,
            min_resources=options.min_resources,
            max_resources=options.max_resources,
            aggressive_elimination=options.aggressive_elimination,
            random_state=options.random_state,
        )
    except ValidationError as error:
        raise Refused.for_validation(error) from error


def _fit_params(given: Mapping[str, Mapping[str, Any]] | None, stage: Stage) -> dict[str, dict[str, JsonValue]]:
    found = {}
    for node, params in (given or {}).items():
        if not isinstance(params, Mapping):
            message = f"fit_params of {node!r} is a {type(params).__name__}; write {{'node': {{'name': value}}}}"
            raise Refused(message, errors=[Fault(pointer=f"/fit_params/{node}", rule="fit_params", message=message)])
        found[node] = {name: encode_value(value, stage) for name, value in params.items()}
    return found


def _cv(options: JobOptions, data: Mapping[str, Any], stage: Stage) -> Any:
    several = bool(options.objects)
    if options.acts not in FOLDED or (options.X is None and not several):
        return None
    return resolve_cv(options.cv, data, stage, objects=several)


def _refit(refit: Any, stage: Stage) -> bool | str | Code:
    return encode_code(refit, stage) if callable(refit) else refit


def _environment(blobs: Mapping[str, Staged]) -> dict[str, str]:
    """The versions that unpickling needs, where anything is pickled, and those of the libraries of frames."""
    needed = versions.of({item.library for item in blobs.values() if item.library is not None})
    if any(item.media_type in (CLOUDPICKLE, MEDIA_TYPE) for item in blobs.values()):
        needed |= {name: found for name, found in versions.here().items() if name in _FINGERPRINT}
    return needed


def _changed_config(stage: Stage) -> dict[str, JsonValue]:
    """This thread's scikit-learn configuration, as far as it is not what another thread starts with."""
    if "sklearn" not in sys.modules:
        return {}
    from sklearn import get_config  # noqa: PLC0415 - only where the user has imported it

    with ThreadPoolExecutor(1) as fresh:
        defaults = fresh.submit(get_config).result()
    return {name: encode_value(value, stage) for name, value in get_config().items() if value != defaults[name]}
