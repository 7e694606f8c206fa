"""Random pipelines through the engine, against a naive evaluation of each path by itself."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, StandardScaler

from flaregate.pipelines import Pipeline
from flaregate_wire.planning import paths
from tests.worker.engine_runs import run
from worker_image.engine.runner import SequentialRunner

RNG = np.random.RandomState(7)
X, Y = RNG.rand(40, 3), RNG.rand(40)
FOLDS = KFold(3)


def halved(X):
    return X / 2


POOL = [StandardScaler(), MinMaxScaler(), PCA(1, random_state=0), PolynomialFeatures(2), halved, Ridge(0.5)]


@st.composite
def pipelines(draw):
    """Up to six nodes and joins, then one or two Ridges."""
    kinds, inputs = {}, {}
    for number in range(draw(st.integers(1, 6))):
        name, before = f"n{number}", sorted(kinds)
        if len(before) > 1 and draw(st.booleans()):
            kinds[name] = None
            inputs[name] = draw(st.lists(st.sampled_from(before), min_size=2, max_size=3, unique=True))
        else:
            kinds[name] = draw(st.sampled_from(range(len(POOL))))
            inputs[name] = draw(st.lists(st.sampled_from(before), max_size=2, unique=True)) if before else []
    feeding = {source for sources in inputs.values() for source in sources}
    ends = [name for name in kinds if name not in feeding]
    return kinds, inputs, ends


def built(kinds, inputs, ends):
    pipe = Pipeline()
    for name, kind in kinds.items():
        if kind is None:
            pipe.join(name, inputs[name])
        else:
            pipe.node(name, POOL[kind], after=inputs[name] or None)
    pipe.node("last", Ridge(), after=ends)
    return pipe


def naive(path, kinds, train, test):
    """What one path gives for training and test rows, each node by itself."""
    made = {}
    for name in path.nodes[:-1]:
        parts = [made[source] for source in path.inputs[name]]
        before = parts[0] if parts else (X[train], X[test])
        if kinds[name] is None:
            made[name] = tuple(np.hstack(columns) for columns in zip(*parts, strict=True))
        elif POOL[kinds[name]] is halved:
            made[name] = tuple(map(halved, before))
        else:
            made[name] = passed_on(clone(POOL[kinds[name]]), before, Y[train])
    (source,) = path.inputs["last"]
    rows = made[source]
    return Ridge().fit(rows[0], Y[train]).score(rows[1], Y[test])


def passed_on(estimator, rows, y):
    if hasattr(estimator, "transform"):
        return estimator.fit_transform(rows[0], y), estimator.transform(rows[1])
    held_out = np.empty(len(y))
    for train, test in KFold(5).split(rows[0]):
        held_out[test] = clone(estimator).fit(rows[0][train], y[train]).predict(rows[0][test])
    return held_out.reshape(-1, 1), estimator.fit(rows[0], y).predict(rows[1]).reshape(-1, 1)


@given(pipelines())
@settings(max_examples=15, deadline=None)
def test_every_path_of_a_random_pipeline_scores_as_by_itself(tmp_path_factory, drawn):
    kinds, _, _ = drawn
    pipe = built(*drawn)
    ran = run(SequentialRunner(), pipe, tmp_path_factory.mktemp("job"), action="cross_validate", X=X, y=Y, cv=FOLDS)
    ways = paths(pipe.encoded()[0])
    assert [outcome.path for outcome in ran.outcomes] == [path.nodes for path in ways]
    expected = [[naive(path, kinds, train, test) for train, test in FOLDS.split(X)] for path in ways]
    np.testing.assert_allclose(ran.scores(), expected, rtol=1e-9, atol=1e-12)
