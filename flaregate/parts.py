"""How one fitted node passes on what it makes, and how a join puts parts together: one code for training and later use.

Both follow scikit-learn: a join equals FeatureUnion, an estimator in the middle equals StackingClassifier.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

STACK_METHODS = ("predict_proba", "decision_function", "predict")
"""What `stack_method='auto'` tries, in order."""
_MATRIX = 2


def combine(parts: Sequence[Any], names: Sequence[str]) -> Any:
    """The columns of all parts side by side, in their order; `names` are the nodes that made them, for the message.

    Sparse (CSR) if any part is sparse; a frame if all parts are frames of one library; else an array. Columns of frames
    keep their names; one that several parts have gets its node's before it, `node__column`, as FeatureUnion names all.
    A part of one dimension becomes a column. Raises ValueError where the numbers of rows differ.
    """
    rows = [_rows(part) for part in parts]
    for name, count in zip(names[1:], rows[1:], strict=True):
        if count != rows[0]:
            msg = f"a join needs equal numbers of rows: {names[0]!r} gives {rows[0]}, {name!r} gives {count}"
            raise ValueError(msg)
    frame = _frame_library(parts)
    if frame == "pandas":
        return sys.modules["pandas"].concat(_named_apart(parts, names), axis=1)
    if frame == "polars":
        return sys.modules["polars"].concat(_named_apart(parts, names), how="horizontal")
    columns = [as_columns(part) for part in parts]
    if any(_is_sparse(part) for part in columns):
        from scipy import sparse  # noqa: PLC0415

        return sparse.hstack(columns).tocsr()
    import numpy as np  # noqa: PLC0415

    return np.hstack(columns)


def _named_apart(parts: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """Frames, and named series as such, of which no two have a column of one name; an unnamed series stays."""
    framed = [part if hasattr(part, "columns") or part.name is None else part.to_frame() for part in parts]
    columns = [set(getattr(part, "columns", ())) for part in framed]
    shared = {column for column, count in Counter(chain.from_iterable(columns)).items() if count > 1}
    if not shared:
        return framed
    return [
        part.rename(**_renaming(part, {column: f"{name}__{column}" for column in own & shared}))
        if own & shared
        else part
        for part, name, own in zip(framed, names, columns, strict=True)
    ]


def _renaming(part: Any, new: dict[Any, str]) -> dict[str, Any]:
    """The argument of the library's `rename`: pandas and polars call it differently."""
    return {"columns" if hasattr(part, "iloc") else "mapping": new}


def as_columns(part: Any) -> Any:
    """A part with two dimensions; what is no array, frame or sparse matrix becomes an array."""
    if _is_sparse(part):
        return part
    import numpy as np  # noqa: PLC0415

    array = np.asarray(part)
    return array.reshape(-1, 1) if array.ndim < _MATRIX else array


def transforms(fitted: Any) -> bool:
    """Whether a node in the middle passes on its transformation, not its predictions."""
    return hasattr(fitted, "transform")


def passed_on(fitted: Any, X: Any, *, method: str = "auto") -> Any:  # noqa: N803 - scikit-learn's name
    """What a fitted estimator in the middle gives to the next node for rows that are not its training rows."""
    if transforms(fitted):
        return fitted.transform(X)
    method = stack_method(fitted) if method == "auto" else method
    return stacked(method, getattr(fitted, method)(X), getattr(fitted, "classes_", None))


def stack_method(estimator: Any) -> str:
    """The method whose output stands for an estimator in the middle; raises ValueError if it has none."""
    for method in STACK_METHODS:
        if hasattr(estimator, method):
            return method
    msg = f"{type(estimator).__name__} can neither transform nor predict, so nothing can follow it"
    raise ValueError(msg)


def stacked(method: str, predictions: Any, classes: Any = None) -> Any:
    """Predictions as columns, as StackingClassifier makes them.

    Of binary probabilities the second column alone; class labels as their places in `classes`; 1-d as one column.
    """
    import numpy as np  # noqa: PLC0415

    if isinstance(predictions, list):  # one array of probabilities for each output
        return np.hstack([np.asarray(part)[:, 1:] for part in predictions])
    array = np.asarray(predictions)
    if method == "predict" and classes is not None and not isinstance(classes, list) and array.ndim == 1:
        array = np.searchsorted(classes, array)
    if array.ndim == 1:
        return array.reshape(-1, 1)
    return array[:, 1:] if method == "predict_proba" and array.shape[1] == _MATRIX else array


def _is_sparse(part: Any) -> bool:
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and bool(sparse.issparse(part))


def _rows(part: Any) -> int:
    shape = getattr(part, "shape", None)
    return int(shape[0]) if shape else len(part)


def _frame_library(parts: Sequence[Any]) -> str | None:
    """`pandas` or `polars` where all parts are frames or series of it and at least one is a frame."""
    for name in ("pandas", "polars"):
        library = sys.modules.get(name)
        if library is not None and all(isinstance(part, library.DataFrame | library.Series) for part in parts):
            return name if any(isinstance(part, library.DataFrame) for part in parts) else None
    return None
