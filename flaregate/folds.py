"""How `cv` and `scoring` are written on the wire: by name and parameters, or as index arrays made once for the job."""

from collections.abc import Iterable, Mapping
from typing import Any

from flaregate.encoding import encode_code
from flaregate.errors import Refused
from flaregate.inputs import REMOTE
from flaregate.payload import encode_splits
from flaregate.values import Stage
from flaregate_wire.definitions import Code, Scorer, Scoring, Splits
from flaregate_wire.problems import Fault

_NO_SEED = frozenset({"KFold", "StratifiedKFold", "GroupKFold", "StratifiedGroupKFold"})
"""Splitters whose folds are drawn only with `shuffle`."""


def resolve_cv(
    cv: Any, inputs: Mapping[str, Any], stage: Stage, *, objects: bool = False
) -> int | Code | Splits | None:
    """None and numbers stay; scikit-learn's splitters go by name; whatever would differ if made twice is made here.

    That is an iterable of (train, test) index arrays, a shuffle without a seed, and a splitter of the user's own. Where
    the rows are not here, or are those of several `objects`, such a splitter is sent and the head makes the folds.
    """
    if cv is None or (hasattr(cv, "__index__") and not isinstance(cv, bool)):
        return None if cv is None else int(cv)
    if hasattr(cv, "split") and not isinstance(cv, str):
        elsewhere = objects or any(isinstance(data, REMOTE) for data in inputs.values())
        code = encode_code(cv, stage) if elsewhere or _repeatable(cv) else None
        if code is not None and (code.import_ or elsewhere):
            return code
        return _splits(cv.split(inputs["X"], inputs.get("y"), inputs.get("groups")), stage)
    if isinstance(cv, str | bytes | Mapping | bool) or not isinstance(cv, Iterable):
        raise _refused(
            f"cv is {cv!r}; give a number of folds, a splitter, or an iterable of (train, test) index arrays"
        )
    return _splits(cv, stage)


def _repeatable(cv: Any) -> bool:
    """Whether the splitter makes the same folds wherever it is called."""
    if not type(cv).__module__.startswith("sklearn.model_selection"):
        return False
    if not hasattr(cv, "random_state") or isinstance(cv.random_state, int):
        return True
    return cv.random_state is None and type(cv).__name__ in _NO_SEED and not cv.shuffle


def _splits(folds: Iterable[Any], stage: Stage) -> Splits:
    try:
        listed = [(train, test) for train, test in folds]
    except (TypeError, ValueError) as error:
        raise _refused(f"the folds of cv cannot be made: {error}") from error
    if not listed:
        raise _refused("cv gives no folds", "folds")
    item = encode_splits(listed)
    stage(item)
    return Splits(blob=item.sha256, folds=len(listed))


def _refused(message: str, rule: str = "cv") -> Refused:
    return Refused(message, errors=[Fault(pointer="/cv", rule=rule, message=message)])


def resolve_scoring(scoring: Any, stage: Stage) -> Scoring:
    """Names stay; callables go by import path or as payloads; several are a tuple or a dict."""
    if scoring is None or isinstance(scoring, str):
        return scoring
    if isinstance(scoring, Mapping):
        return {str(name): _scorer(item, stage) for name, item in scoring.items()}
    if isinstance(scoring, list | tuple | set | frozenset):
        names = sorted(scoring) if isinstance(scoring, set | frozenset) else scoring
        return tuple(str(name) for name in names)
    return _scorer(scoring, stage)


def _scorer(scoring: Any, stage: Stage) -> Scorer:
    if isinstance(scoring, str):
        return scoring
    if not callable(scoring):
        message = f"scoring is {scoring!r}; give a name, a callable, a list of names or a dict"
        raise Refused(message, errors=[Fault(pointer="/scoring", rule="scoring", message=message)])
    return encode_code(scoring, stage)
