"""How many folds a job has, as far as that is known before its inputs are read."""

from flaregate_wire.definitions import FOLDED, Code, JobDefinition, Splits

DEFAULT_FOLDS = 5
NEED_Y = frozenset({"StratifiedKFold", "RepeatedStratifiedKFold", "StratifiedShuffleSplit", "StratifiedGroupKFold"})
NEED_GROUPS = frozenset(
    {"GroupKFold", "GroupShuffleSplit", "LeaveOneGroupOut", "LeavePGroupsOut", "StratifiedGroupKFold"}
)
_REPEATED = frozenset({"RepeatedKFold", "RepeatedStratifiedKFold"})
_REPEATS = 10
_DEFAULTS = {
    "KFold": 5,
    "StratifiedKFold": 5,
    "GroupKFold": 5,
    "StratifiedGroupKFold": 5,
    "TimeSeriesSplit": 5,
    "RepeatedKFold": 5,
    "RepeatedStratifiedKFold": 5,
    "ShuffleSplit": 10,
    "StratifiedShuffleSplit": 10,
    "GroupShuffleSplit": 5,
}


def splitter_name(definition: JobDefinition) -> str | None:
    """The class of scikit-learn's splitter that `cv` names, if it names one."""
    cv = definition.cv
    if isinstance(cv, Code) and cv.import_ and cv.import_.startswith("sklearn.model_selection"):
        return cv.import_.partition(":")[2]
    return None


def fold_count(definition: JobDefinition) -> int | None:
    """The number of folds: 1 where nothing is cut (all rows), None where it is known only from the data."""
    if definition.action not in FOLDED:
        return 1
    cv = definition.cv
    if cv is None:
        return DEFAULT_FOLDS
    if isinstance(cv, int):
        return cv
    if isinstance(cv, Splits):
        return cv.folds
    name = splitter_name(definition)
    if name not in _DEFAULTS:
        return None
    folds = cv.params.get("n_splits", _DEFAULTS[name])
    repeats = cv.params.get("n_repeats", _REPEATS) if name in _REPEATED else 1
    return folds * repeats if isinstance(folds, int) and isinstance(repeats, int) else None
