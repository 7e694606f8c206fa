"""Frames, tables and sparse matrices as X and y: nodes see what they would see locally, and numbers equal scikit-learn's."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import flaregate as fg
from flaregate.frames import ARROW
from flaregate.submission import JobOptions, prepare
from flaregate.testing import InProcessClient
from worker_image.in_process import in_process

ROWS, LABELS = load_iris(return_X_y=True)
GRID = {"lr__C": [0.1, 1.0]}
NAMES = ["sepal", "width", "petal", "breadth"]


@pytest.fixture
def client():
    with InProcessClient(in_process) as client:
        yield client


def table(width=4, words=True):
    """Numbers and, beside them, words, a category and a missing value."""
    columns = dict(zip(NAMES, ROWS.T[:width], strict=False))
    if words:
        columns["garden"] = np.where(np.arange(150) % 3, "north", "south").tolist()
        columns["size"] = ["s" if n % 4 else "l" for n in range(150)]
    return columns


def pandas_frame():
    frame = pd.DataFrame(table(), index=[f"plant {n}" for n in range(150)])
    return frame.astype({"size": pd.CategoricalDtype(["s", "l"])})


def steps():
    columns = ColumnTransformer(
        [("scale", StandardScaler(), NAMES), ("words", OneHotEncoder(sparse_output=False), ["garden", "size"])]
    )
    return [("columns", columns), ("lr", LogisticRegression())]


def numbers():
    return [("scale", StandardScaler()), ("pca", PCA(2, random_state=0)), ("lr", LogisticRegression())]


def chain(named):
    pipe, last = fg.Pipeline("chain"), None
    for name, estimator in named:
        last = pipe.node(name, estimator, after=last)
    return pipe


def by_row(frame):
    made = pd.DataFrame(frame, columns=NAMES, copy=False)
    assert made.to_numpy().flags.c_contiguous
    return made


LABELLED = np.array(["setosa", "versicolor", "virginica"])[LABELS]
CASES = {
    "pandas": (pandas_frame(), pd.Series(LABELLED, index=pandas_frame().index, name="kind"), steps),
    "pandas, categories as y": (pandas_frame(), pd.Series(LABELLED, dtype="category"), steps),
    "pandas, nullable": (pd.DataFrame(table(words=False)).astype("Float64"), pd.Series(LABELS, dtype="Int64"), numbers),
    "pandas, row by row": (by_row(ROWS), LABELS, numbers),
    "polars": (pl.DataFrame(table()), pl.Series("kind", LABELLED.tolist()), steps),
    "polars, numbers": (pl.DataFrame(table(words=False)), pl.Series("kind", LABELS), numbers),
    "Arrow": (pa.table(table(words=False)), LABELS, numbers),
    "sparse": (sparse.csr_array(ROWS), LABELS, lambda: [("lr", LogisticRegression(max_iter=1000))]),
    "lists": (ROWS.tolist(), LABELS.tolist(), numbers),
}


@pytest.mark.parametrize("name", CASES)
def test_a_search_equals_grid_search(client, name):
    X, y, made = CASES[name]
    search = GridSearchCV(Pipeline(made()), GRID, cv=3).fit(X, y)
    result = client.submit(chain(made()), X=X, y=y, axes=GRID, cv=3).result()
    ours = result.table()
    assert list(ours["params"]) == list(search.cv_results_["params"])
    for column in ("mean_test_score", "std_test_score", "split0_test_score", "split2_test_score"):
        np.testing.assert_array_equal(ours[column], search.cv_results_[column])
    best, theirs = result.best.pipeline(), search.best_estimator_
    np.testing.assert_array_equal(best.predict_proba(X), theirs.predict_proba(X))
    assert best.classes_.tolist() == theirs.classes_.tolist()
    first, their_first = best.named_nodes[made()[0][0]], theirs[0]
    assert list(getattr(first, "feature_names_in_", [])) == list(getattr(their_first, "feature_names_in_", []))


class Sees(TransformerMixin, BaseEstimator):
    """Leaves what it has seen of X and y."""

    def fit(self, X, y=None):
        self.x_ = (type(X).__name__, [str(dtype) for dtype in getattr(X, "dtypes", [getattr(X, "schema", None)])])
        self.names_ = [str(name) for name in getattr(X, "columns", getattr(X, "column_names", []))]
        self.rows_ = list(getattr(X, "index", []))
        self.y_ = (type(y).__name__, str(getattr(y, "dtype", "")), getattr(y, "name", None))
        return self

    def transform(self, X):
        return X


@pytest.mark.parametrize("name", CASES)
def test_a_node_sees_what_it_would_see_locally(client, name):
    X, y, _ = CASES[name]
    seen = client.submit(chain([("sees", Sees())]), X=X, y=y).result().best.pipeline().named_nodes["sees"]
    if name == "lists":  # go as arrays of the same numbers
        X, y = np.asarray(X), np.asarray(y)
    assert vars(seen) == vars(Sees().fit(X, y))


@pytest.mark.parametrize("name", CASES)
def test_rows_are_known_at_submission(name):
    X, y, made = CASES[name]
    submission = prepare(chain(made()), JobOptions(X=X, y=y))
    shapes = {part: given.shape for part, given in submission.definition.inputs.items()}
    assert shapes == {"X": np.asarray(X).shape if name == "lists" else X.shape, "y": (150,)}
    with pytest.raises(fg.Refused, match="different numbers of rows"):
        prepare(chain(made()), JobOptions(X=X, y=y[:20]))


@pytest.mark.parametrize("name", ["pandas", "polars", "Arrow"])
def test_frames_go_as_arrow_and_ask_for_their_library(name):
    X, _, made = CASES[name]
    submission = prepare(chain(made()), JobOptions(X=X))
    assert submission.definition.inputs["X"].media_type == ARROW
    library = {"Arrow": "pyarrow"}.get(name, name)
    assert submission.definition.environment[library] == {"pandas": pd, "polars": pl, "Arrow": pa}[name].__version__


@pytest.mark.parametrize(("output", "kind"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)])
def test_outputs_are_frames_where_the_nodes_say_so(client, output, kind):
    X = pd.DataFrame(ROWS, columns=NAMES)
    pipe = chain([("scale", StandardScaler().set_output(transform=output))])
    job = client.submit(pipe, X=X)
    found = client.submit(job.result().best, action="transform", X=X).result().outputs[0]
    with config_context(transform_output="default"):
        local = StandardScaler().set_output(transform=output).fit(X).transform(X)
    assert type(found) is kind
    assert list(found.columns) == NAMES
    assert found.equals(local)


@pytest.mark.parametrize("name", ["pandas", "polars", "Arrow", "sparse"])
def test_blocks_of_frames_are_frames(client, name):
    X, _, _ = CASES[name]
    outputs = client.map(lambda block: block, X, blocks=4).result().outputs
    assert [type(one) for one in outputs] == [type(X)] * 4
    whole = outputs.concat()
    if name == "sparse":
        np.testing.assert_array_equal(whole.toarray(), X.toarray())
    else:
        assert whole.equals(X)
