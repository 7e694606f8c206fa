"""Before the first task: inputs read, nodes checked, folds made. Runs user code, so never in the driver's process."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import JsonValue
from sklearn import __version__ as sklearn_version
from sklearn.base import is_classifier
from sklearn.metrics._scorer import _BaseScorer
from sklearn.model_selection import check_cv
from sklearn.utils import indexable

from flaregate.encoding import build, decode_value
from flaregate.imports import resolve
from flaregate.payload import SPLITS, decode_data, encode_data, encode_splits
from flaregate_wire.definitions import (
    FOLDED,
    Action,
    Artifact,
    Blob,
    Code,
    Dataset,
    EstimatorNode,
    FunctionNode,
    Input,
    JobDefinition,
    JoinNode,
    ModelNode,
    Splits,
)
from flaregate_wire.planning import Setting, paths
from flaregate_wire.planning.checks import suggestion
from flaregate_wire.planning.naming import RowNames, content, inputs_of, known_content, row_names
from flaregate_wire.references import Reference
from flaregate_wire.states import Reason
from worker_image.engine import references
from worker_image.engine.drawing import drawing
from worker_image.engine.rows import Source
from worker_image.engine.running import error_detail
from worker_image.engine.session import Context, Data, FunctionEstimator, Session


class JobFailed(Exception):
    """Nothing of the job can run."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class SourceSummary:
    """What the driver must know of one source object."""

    rows: int
    folds: int
    name: str | None = None
    names: RowNames | None = None
    """In the cache; None where nothing is to be found again."""
    classes: int = 1
    """Distinct targets where every path ends in a classifier, else 1."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What the driver must know of the data."""

    sources: tuple[SourceSummary, ...]
    drawing: frozenset[str] = frozenset()
    """Nodes that may draw random numbers which no seed fixes."""


def prepare(context: Context, files: Mapping[str, str]) -> tuple[Data, Summary]:
    """The rows of a job and its folds.

    Args:
        context: The job.
        files: Where each staged blob is, by sha256.

    Raises:
        JobFailed: An input cannot be read, no path can run, or the folds cannot be made.
    """
    definition = context.definition
    session = Session(context, Data(()))
    loaded = list(_sources(context, files))
    with session.configured():
        check_nodes(session)
        sources = tuple(_with_folds(session, files, source, groups) for source, groups in loaded)
        summaries = tuple(_summary(session, number, source) for number, source in enumerate(sources))
        drawn = drawing(session, sources) if definition.cache != "off" else frozenset()
        whole = _wants_whole(session)
    return Data(sources, whole, _seed(definition)), Summary(summaries, drawn)


def _sources(context: Context, files: Mapping[str, str]) -> Iterator[tuple[Source, Any]]:
    definition = context.definition
    for one in definition.objects:
        y = None if one.y is None else _load(f"y of {one.name}", one.y, files, context)
        yield _aligned(_load(f"X of {one.name}", one.X, files, context), y, None, None, one.name)
    if definition.objects:
        return
    found = {name: _load(name, given, files, context) for name, given in definition.inputs.items()}
    yield _aligned(found.get("X"), found.get("y"), found.get("groups"), found.get("sample_weight"), None)


def _aligned(X: Any, y: Any, groups: Any, weights: Any, name: str | None) -> tuple[Source, Any]:  # noqa: N803
    if X is None:
        return Source(None), None
    if isinstance(X, list) and y is None and weights is None:
        return Source(X, name=name), groups
    try:
        X, y, groups, weights = indexable(X, y, groups, weights)  # noqa: N806
    except (ValueError, TypeError) as error:
        raise JobFailed(Reason.USER_ERROR, f"X, y and groups do not fit together: {error}") from error
    return Source(X, y, weights, name=name), groups


def _load(name: str, given: Input, files: Mapping[str, str], context: Context) -> Any:
    try:
        if isinstance(given, Blob):
            return decode_data(given.media_type, Path(files[given.blob]))
        if isinstance(given, Reference):
            return references.read(given, context.references)
        return _part(given, context)
    except Exception as error:
        detail = error_detail(error)
        message = f"input {name!r} cannot be loaded: {detail.type}: {detail.message}"
        raise JobFailed(Reason.STAGE_IN_FAILED, message) from error


def _part(given: Dataset | Artifact, context: Context) -> Any:
    if isinstance(given, Artifact):
        msg = f"{given.artifact} was not resolved when the job was submitted"
        raise LookupError(msg)  # noqa: TRY004 - it is missing, and told as what is missing
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


def _with_folds(session: Session, files: Mapping[str, str], source: Source, groups: Any) -> Source:
    if session.context.definition.action not in FOLDED:
        return source
    folds = _folds(session, files, source.X, source.y, groups)
    return Source(source.X, source.y, source.weights, folds, source.name)


def _summary(session: Session, number: int, source: Source) -> SourceSummary:
    definition = session.context.definition
    classes = 1
    if definition.halving is not None and source.y is not None and _classifies(session, definition):
        classes = len(np.unique(source.y))
    names = None if definition.cache == "off" else _names(session.context, number, source)
    return SourceSummary(source.rows, len(source.folds), source.name, names, classes)


def _names(context: Context, number: int, source: Source) -> RowNames:
    """Of an input that its definition does not name, the content is looked at."""
    rows = {"X": source.X, "y": source.y, "sample_weight": source.weights}
    given = {name: one for name, one in inputs_of(context.definition, number).items() if name in rows}
    contents = {name: _content(one, rows[name], context) for name, one in given.items()}
    return row_names(contents, sklearn_version, [encode_splits([fold]).sha256 for fold in source.folds])


def _content(given: Input, rows: Any, context: Context) -> JsonValue:
    if isinstance(given, Reference):
        return references.content(given, context.references)
    known = known_content(given, sklearn_version)
    if known is not None:
        return known
    found = encode_data(rows)
    return content(found.media_type, found.sha256)


def _seed(definition: JobDefinition) -> int | None:
    """Of the rows that halving draws: every candidate and every process must draw the same ones."""
    if definition.halving is None:
        return None
    given = definition.halving.random_state
    return int(np.random.default_rng().integers(2**31)) if given is None else given


def _wants_whole(session: Session) -> bool:
    """Whether a scorer is a function of the user's own: it may look at the estimator and at X as it likes."""
    scoring = session.scoring() if session.context.definition.action in FOLDED else None
    scorers = list(scoring.values()) if isinstance(scoring, dict) else [scoring]
    return any(callable(scorer) and not isinstance(scorer, _BaseScorer) for scorer in scorers)


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
    for path in paths(definition.pipeline):
        if path.leaf in broken:
            continue
        if definition.action in FOLDED:
            _check_score(session, path.leaf)
        if isinstance(session.node(path.leaf), ModelNode):
            _check_method(session, path.leaf)


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
    if known is not None and setting.param not in known and "__" not in setting.param:
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
    if session.context.definition.scoring is not None:
        try:
            fits = isinstance(session.node(leaf), EstimatorNode)
            session.scorer(session.prototype(leaf) if fits else FunctionEstimator())
        except Exception as error:  # a scorer may be the user's own code
            detail = error_detail(error)
            message = f"'scoring' cannot score {leaf!r}: {detail.type}: {detail.message}"
            raise JobFailed(Reason.USER_ERROR, message) from error
    elif not hasattr(session.prototype(leaf), "score"):
        message = f"a path ends in {leaf!r}, which has no score; give 'scoring' or end the path in an estimator"
        raise JobFailed(Reason.USER_ERROR, message)


def _check_method(session: Session, leaf: str) -> None:
    definition = session.context.definition
    method = definition.method if definition.action is Action.MAP else definition.action.value
    if method is None or (not hasattr(session.prototype(leaf), method) and definition.scoring is None):
        message = f"the fitted pipeline {leaf!r} has no {method!r}; its last node is {session.prototype(leaf)!r}"
        raise JobFailed(Reason.USER_ERROR, message)


def _folds(session: Session, files: Mapping[str, str], X: Any, y: Any, groups: Any) -> tuple[tuple[Any, Any], ...]:  # noqa: N803
    definition = session.context.definition
    if isinstance(definition.cv, Splits):
        folds = tuple(decode_data(SPLITS, Path(files[definition.cv.blob])))
        _check_splits(folds, Source(X).rows)
        return folds
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


def _check_splits(folds: Sequence[tuple[Any, Any]], rows: int) -> None:
    for number, fold in enumerate(folds):
        for part in fold:
            wrong = len(part) != rows if part.dtype == bool else bool(((part < -rows) | (part >= rows)).any())
            if wrong:
                message = f"fold {number} of cv names rows that are not there: X has {rows}"
                raise JobFailed(Reason.USER_ERROR, message)


def _classifies(session: Session, definition: JobDefinition) -> bool:
    """Whether every path ends in a classifier. Only a number of folds asks; paths must agree then."""
    if isinstance(definition.cv, Code) and definition.halving is None:
        return False
    kinds = {path.leaf: _is_classifier(session, path.leaf) for path in paths(definition.pipeline)}
    known = {kind for kind in kinds.values() if kind is not None}
    if len(known) > 1 and not isinstance(definition.cv, Code | Splits):
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
