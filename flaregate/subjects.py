"""What a job is about: a pipeline of nodes, one function, or a fitted pipeline that is there already or is staged."""

import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from flaregate.code_digest import Opaque, look
from flaregate.encoding import is_estimator
from flaregate.errors import AmbiguousBest, NoArtifact, Refused
from flaregate.fitted_file import MEDIA_TYPE, FittedNode, write
from flaregate.inputs import Ref
from flaregate.outcomes import BEST, Outcome
from flaregate.payload import Staged, staged
from flaregate.pipelines import Pipeline
from flaregate_wire.definitions import APPLIES, Action, Artifact, Blob, ModelNode, PipelineDefinition
from flaregate_wire.jobs import ArtifactView

MODEL = "model"
"""The name of the node of a fitted pipeline."""

Encoded = tuple[PipelineDefinition, dict[str, Staged]]


def encoded(subject: Any, action: str, method: str | None = None) -> Encoded:
    """The pipeline of what was given as the first argument, and the bytes that it refers to.

    Args:
        subject: A Pipeline; for `map` and `sweep` also a function; for `predict`, `predict_proba`, `transform`, `score`
            and `map` an Outcome with a fitted pipeline, a reference to one, or a fitted estimator of this process.
        action: What is done with it.
        method: The method that `map` calls.
    """
    if isinstance(subject, Pipeline):
        return subject.encoded(cells=action == Action.SWEEP)
    if isinstance(subject, Outcome | Ref):
        source = subject.on_wire(MEDIA_TYPE) if isinstance(subject, Ref) else Artifact(artifact=subject.address)
        return _of_model(source), {}
    if is_estimator(subject) and (action in APPLIES or action == Action.MAP):
        item, code = _stage_fitted(subject, action if action in APPLIES else method)
        source = Blob(blob=item.sha256, media_type=item.media_type, size=item.size)
        return _of_model(source, code), {item.sha256: item}
    if callable(subject) and not isinstance(subject, type) and action in (Action.MAP, Action.SWEEP):
        pipe = Pipeline(_name(subject))
        pipe.node(_name(subject), subject)
        return pipe.encoded(cells=action == Action.SWEEP)
    raise Refused(
        f"the first argument is a {type(subject).__name__}, not a flaregate.Pipeline; 'map' and 'sweep' take a "
        "function, 'predict', 'transform' and 'score' something fitted"
    )


def fitted_of(artifacts: Sequence[ArtifactView], job_id: str) -> Ref:
    """The fitted pipeline that a job stands for: its best one, or the only one."""
    names = [artifact.name for artifact in artifacts if artifact.media_type == MEDIA_TYPE]
    if BEST in names or len(names) == 1:
        return Ref(f"job:{job_id}/{BEST if BEST in names else names[0]}")
    if names:
        raise AmbiguousBest(f"{job_id} fitted {len(names)} pipelines; choose one of result.outcomes")
    raise NoArtifact(
        f"{job_id} has left no fitted pipeline; a 'fit' does, and a 'search' with refit, when they have ended"
    )


def _of_model(source: Blob | Artifact, code: str | None = None) -> PipelineDefinition:
    return PipelineDefinition(name=MODEL, nodes=(ModelNode(name=MODEL, kind="model", source=source, code=code),))


def _stage_fitted(model: Any, method: str | None) -> tuple[Staged, str | None]:
    """Its file, and what its code does where its bytes do not say that: they name modules."""
    name = type(model).__name__
    if not _is_fitted(model):
        raise Refused(f"this {name} is not fitted; fit it, or submit it in a pipeline with action='fit'")
    if method not in (None, "score") and not hasattr(model, str(method)):
        raise Refused(f"this {name} has no {method!r}")
    nodes = model.nodes if _is_fitted_pipeline(model) else [FittedNode(MODEL, "estimator", (), model)]
    file = io.BytesIO()
    write(file, nodes)
    item = staged(MEDIA_TYPE, file.getvalue())
    try:
        seen = look(model)
    except Opaque:
        return item, None
    return replace(item, modules=seen.only_here), seen.digest if seen.only_here else None


def _is_fitted_pipeline(model: Any) -> bool:
    module = sys.modules.get("flaregate.fitted")
    return module is not None and isinstance(model, module.FittedPipeline)


def _is_fitted(model: Any) -> bool:
    """What scikit-learn says of it; of an object that is not scikit-learn's nothing is known."""
    if "sklearn" not in sys.modules:
        return True
    from sklearn.base import BaseEstimator  # noqa: PLC0415 - only where the user has imported it
    from sklearn.exceptions import NotFittedError  # noqa: PLC0415
    from sklearn.utils.validation import check_is_fitted  # noqa: PLC0415

    if isinstance(model, BaseEstimator):
        try:
            check_is_fitted(model)
        except NotFittedError:
            return False
    return True


def _name(function: Callable[..., Any]) -> str:
    inner = function.func if isinstance(function, partial) else function
    name = getattr(inner, "__name__", type(inner).__name__)
    return name if name.isidentifier() else "function"
