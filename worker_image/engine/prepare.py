"""Before the first task: inputs read, nodes checked, folds made. Runs user code, so never in the driver's process."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sklearn.base import is_classifier
from sklearn.model_selection import check_cv
from sklearn.utils import indexable

from flaregate.encoding import build, decode_value
from flaregate.imports import resolve
from flaregate.payload import SPLITS, decode_data
from flaregate_wire.definitions import Action, Blob, Code, Dataset, FunctionNode, Input, JobDefinition, JoinNode, Splits
from flaregate_wire.planning import Setting, paths
from flaregate_wire.planning.checks import suggestion
from flaregate_wire.states import Reason
from worker_image.engine.running import error_detail
from worker_image.engine.session import Context, Data, Session


class JobFailed(Exception):
    """Nothing of the job can run."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Summary:
    """What the driver must know of the data."""

    rows: int
    folds: int


def prepare(context: Context, files: Mapping[str, str]) -> tuple[Data, Summary]:
    """The rows of a job and its folds.

    Args:
        context: The job.
        files: Where each staged blob is, by sha256.

    Raises:
        JobFailed: An input cannot be read, no path can run, or the folds cannot be made.
    """
    definition = context.definition
    session = Session(context, Data(None, None, ()))
    inputs = {name: _load(name, given, files, context) for name, given in definition.inputs.items()}
    try:
        X, y, groups = indexable(inputs["X"], inputs.get("y"), inputs.get("groups"))  # noqa: N806
    except (ValueError, TypeError) as error:
        raise JobFailed(Reason.USER_ERROR, f"X, y and groups do not fit together: {error}") from error
    with session.configured():
        check_nodes(session)
        folds = () if definition.action is Action.FIT else _folds(session, files, X, y, groups)
    rows = X.shape[0] if hasattr(X, "shape") else len(X)
    return Data(X, y, folds), Summary(rows, len(folds))


def _load(name: str, given: Input, files: Mapping[str, str], context: Context) -> Any:
    try:
        if isinstance(given, Blob):
            return decode_data(given.media_type, Path(files[given.blob]))
        return _part(given, context)
    except Exception as error:
        detail = error_detail(error)
        message = f"input {name!r} cannot be loaded: {detail.type}: {detail.message}"
        raise JobFailed(Reason.STAGE_IN_FAILED, message) from error


def _part(given: Dataset, context: Context) -> Any:
    params = {name: decode_value(value, context.blobs.__getitem__) for name, value in given.params.items()}
    loaded = resolve(given.dataset)(**params)
    if isinstance(loaded, Mapping):
        if given.part in loaded:
            return loaded[given.part]
        known = [str(key) for key in loaded]
    else:
        if hasattr(loaded, given.part):
            return getattr(loaded, given.part)
        known = [key for key in dir(loaded) if not key.startswith("_")]
    msg = f"{given.dataset} has no part {given.part!r}{suggestion(given.part, known)}"
    raise LookupError(msg)


def check_nodes(session: Session) -> None:
    """Build every node and try its settings: what no path can do is found before the first task."""
    definition = session.context.definition
    broken = _broken(session)
    if broken and all(set(path.nodes) & set(broken) for path in paths(definition.pipeline)):
        name, cause = next(iter(broken.items()))
        reason = Reason.ENVIRONMENT_MISMATCH if isinstance(cause, ImportError) else Reason.USER_ERROR
        raise JobFailed(reason, f"node {name!r} cannot be built: {type(cause).__name__}: {cause}") from cause
    for axis in definition.axes:
        if axis.node not in broken:
            _check_setting(session, Setting(axis.node, axis.param, axis.values[0]))
    if definition.scoring is None and definition.action is not Action.FIT:
        for path in paths(definition.pipeline):
            if path.leaf not in broken:
                _check_score(session, path.leaf)


def _broken(session: Session) -> dict[str, Exception]:
    """The nodes that cannot be built. Where other paths are whole, their candidates fail by themselves."""
    found: dict[str, Exception] = {}
    for node in session.context.definition.pipeline.nodes:
        try:
            session.prototype(node.name)
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything
            found[node.name] = error
    return found


def _check_setting(session: Session, setting: Setting) -> None:
    node = session.node(setting.node)
    if isinstance(node, FunctionNode):
        known = _arguments(session.prototype(setting.node))
    elif not isinstance(node, JoinNode) and hasattr(session.prototype(setting.node), "get_params"):
        known = set(session.prototype(setting.node).get_params())
    else:
        return
    if known is not None and setting.param not in known:
        message = f"node {setting.node!r} has no parameter {setting.param!r}{suggestion(setting.param, known)}"
        raise JobFailed(Reason.USER_ERROR, message)


def _arguments(function: Any) -> set[str] | None:
    """The names that a function takes as keywords; None if it takes any or does not say."""
    try:
        parameters = inspect.signature(function.func if isinstance(function, partial) else function).parameters
    except (ValueError, TypeError):
        return None
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return None
    return {name for name, one in parameters.items() if one.kind is not inspect.Parameter.POSITIONAL_ONLY}


def _check_score(session: Session, leaf: str) -> None:
    if not hasattr(session.prototype(leaf), "score"):
        message = f"a path ends in {leaf!r}, which has no score; give 'scoring' or end the path in an estimator"
        raise JobFailed(Reason.USER_ERROR, message)


def _folds(session: Session, files: Mapping[str, str], X: Any, y: Any, groups: Any) -> tuple[tuple[Any, Any], ...]:  # noqa: N803
    definition = session.context.definition
    if isinstance(definition.cv, Splits):
        return tuple(decode_data(SPLITS, Path(files[definition.cv.blob])))
    try:
        given = (
            build(definition.cv, session.context.blobs.__getitem__)
            if isinstance(definition.cv, Code)
            else definition.cv
        )
        splitter = check_cv(given, y, classifier=_classifies(session, definition))
        return tuple((train, test) for train, test in splitter.split(X, y, groups))
    except JobFailed:
        raise
    except Exception as error:
        detail = error_detail(error)
        raise JobFailed(Reason.USER_ERROR, f"the folds cannot be made: {detail.type}: {detail.message}") from error


def _classifies(session: Session, definition: JobDefinition) -> bool:
    """Whether every path ends in a classifier. Only a number of folds asks; paths must agree then."""
    if isinstance(definition.cv, Code):
        return False
    kinds = {path.leaf: _is_classifier(session, path.leaf) for path in paths(definition.pipeline)}
    known = {kind for kind in kinds.values() if kind is not None}
    if len(known) > 1:
        listed = ", ".join(f"{name!r} is {'a' if kind else 'no'} classifier" for name, kind in kinds.items())
        message = f"the folds of cv={definition.cv} depend on the kind of the last node, and {listed}; pass a splitter"
        raise JobFailed(Reason.USER_ERROR, message)
    return known == {True}


def _is_classifier(session: Session, leaf: str) -> bool | None:
    """None where the node cannot be built: its candidates fail by themselves."""
    node = session.node(leaf)
    if node.kind != "estimator":
        return False
    try:
        return bool(is_classifier(session.prototype(leaf)))
    except Exception:  # noqa: BLE001 - the user's code may raise anything
        return None
