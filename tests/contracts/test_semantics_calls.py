"""What learns nothing: fitted pipelines applied, maps, sweeps; and tasks that are slow or end their process."""

import time
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import flaregate as fg
from flaregate.testing.submitting import chain
from tests.contracts.semantics import Moody, same, scores

# A fitted pipeline as input


@pytest.mark.parametrize("action", ["predict", "predict_proba", "transform"])
@pytest.mark.parametrize("origin", ["outcome", "local"])
def test_what_a_fitted_pipeline_gives(client, iris, action, origin):
    X, y = iris
    last = StandardScaler() if action == "transform" else GaussianNB()
    expected = make_pipeline(MinMaxScaler(), last).fit(X, y)
    model = client.submit(chain(("low", MinMaxScaler()), ("last", last)), X=X, y=y).result().best
    result = client.submit(model if origin == "outcome" else expected, action=action, X=X[:40]).result()
    (given,) = result.outputs
    same(given, getattr(expected, action)(X[:40]))


def test_a_fitted_pipeline_on_several_objects(client, iris):
    X, y = iris
    objects = {"a": X[:10], "b": sparse.csr_matrix(X[10:30]).toarray()}
    model = GaussianNB().fit(X, y)
    result = client.submit(model, action="predict", objects=objects).result()
    assert [outcome.object for outcome in result.outcomes] == ["a", "b"]
    for given, rows in zip(result.outputs, objects.values(), strict=True):
        np.testing.assert_array_equal(given, model.predict(rows))


def test_a_fitted_pipeline_is_scored(client, iris):
    X, y = iris
    model = GaussianNB().fit(X[::2], y[::2])
    (plain,) = client.submit(model, action="score", X=X, y=y).result().outputs
    assert plain == model.score(X, y)
    (several,) = client.submit(model, action="score", X=X, y=y, scoring=["accuracy", "neg_log_loss"]).result().outputs
    assert list(several) == ["accuracy", "neg_log_loss"]
    assert several["accuracy"] == model.score(X, y)


def test_large_answers_are_artifacts_and_come_back_whole(client, iris):
    X = np.tile(iris[0], (200, 1))
    model = StandardScaler().fit(X)
    job = client.submit(model, action="transform", X=X)
    assert job.ran.artifacts
    same(job.result().outputs[0], model.transform(X))


# Maps


def doubled(block):
    return [2 * item for item in block] if isinstance(block, list) else 2 * block


def slow_rows(block):
    time.sleep(0.0002 * len(block))
    return block.sum(axis=1)


@pytest.mark.parametrize("blocks", [1, 3, 7, 150])
def test_blocks_are_cut_as_array_split_cuts_and_come_in_order(client, iris, blocks):
    outputs = client.map(doubled, iris[0], blocks=blocks).result().outputs
    assert [len(block) for block in outputs] == [len(block) for block in np.array_split(iris[0], blocks)]
    np.testing.assert_array_equal(outputs.concat(), 2 * iris[0])


def test_without_blocks_their_size_adapts(processes):
    X = np.random.RandomState(0).normal(size=(5000, 3))
    outputs = processes.map(slow_rows, X).result().outputs
    assert 1 < len(outputs) < 500
    same(outputs.concat(), X.sum(axis=1))


def test_a_list_of_items_is_mapped(client):
    items = [f"item {number}" for number in range(10)]
    outputs = client.map(lambda block: [item.upper() for item in block], items, blocks=3).result().outputs
    assert [len(block) for block in outputs] == [4, 3, 3]
    assert outputs.concat() == [item.upper() for item in items]


def test_a_method_of_a_fitted_pipeline_is_mapped(client, iris):
    X, y = iris
    model = client.submit(chain(("nb", GaussianNB())), X=X, y=y).result().best
    outputs = client.map(model, X, method="predict_proba", blocks=4).result().outputs
    same(outputs.concat(), GaussianNB().fit(X, y).predict_proba(X))


def test_a_block_that_fails_is_named_and_the_others_are_there(client, iris):
    def picky(block):
        if block[0, 0] == iris[0][50, 0]:
            raise LookupError("not this block")
        return block

    result = client.map(picky, iris[0], blocks=3).result()
    with pytest.raises(fg.JobFailed, match="block 1"):
        _ = result.outputs
    assert [outcome.error is None for outcome in result.outcomes] == [True, False, True]
    np.testing.assert_array_equal(result.outcomes[2].output, iris[0][100:])


# Sweeps


def tune(task, seed, lr):
    return {"acc": len(task) + seed * lr, "loss": lr / (seed + 1)}


def test_a_sweep_is_every_cell_with_a_table_of_groups(client):
    axes = {"task": ["a", "bb"], "seed": range(3), "lr": [0.5, 1.0]}
    result = client.sweep(tune, axes=axes, best="max:acc").result()
    cells = [(task, seed, lr) for task in axes["task"] for seed in axes["seed"] for lr in axes["lr"]]
    found = {tuple(outcome.axes[name] for name in axes): outcome.metrics for outcome in result.outcomes}
    assert found == {cell: tune(*cell) for cell in cells}
    table = result.table(group_by=["task", "lr"])
    assert len(table) == 4
    row = table[(table["task"] == "bb") & (table["lr"] == 1.0)].iloc[0]
    accs = [tune("bb", seed, 1.0)["acc"] for seed in range(3)]
    same([row["acc_mean"], row["acc_std"]], [np.mean(accs), np.std(accs)])
    assert result.best.axes == {"task": "bb", "seed": 2, "lr": 1.0}


def base(size):
    return np.arange(size)


def headed(base, factor):
    return {"sum": float(base.sum() * factor)}


def test_cells_get_what_is_upstream_by_its_nodes_name(client):
    pipe = fg.Pipeline()
    pipe.node("head", headed, after=pipe.node("base", base))
    result = client.submit(pipe, action="sweep", axes={"base__size": [3, 5], "head__factor": [1, 2]}).result()
    assert [outcome.metrics["sum"] for outcome in result.outcomes] == [3.0, 6.0, 10.0, 20.0]


def test_what_is_no_dict_of_numbers_is_the_output(client):
    result = client.sweep(lambda n: [n] * n, axes={"n": [1, 3]}).result()
    assert result.outputs == [[1], [3, 3, 3]]
    assert [outcome.metrics for outcome in result.outcomes] == [None, None]


# Times and tries


def test_a_task_that_takes_too_long_is_an_error_of_its_candidate(processes, iris):
    X, y = iris
    pipe = fg.Pipeline()
    pipe.node("moody", Moody(), timeout=1.0)
    axes = {"moody__mood": ["good", "slow", "fine"]}
    start = time.monotonic()
    result = processes.submit(pipe, X=X, y=y, axes=axes, cv=2, refit=False).result()
    assert time.monotonic() - start < 30
    assert [outcome.error is None for outcome in result.outcomes] == [True, False, True]
    assert "1" in result.outcomes[1].error.message


class Unsteady(TransformerMixin, BaseEstimator):
    """Ends its process the first time."""

    def __init__(self, folder):
        self.folder = folder

    def fit(self, X, y=None):
        import os

        mark = Path(self.folder) / "been here"
        if not mark.exists():
            mark.touch()
            os._exit(1)
        return self

    def transform(self, X):
        return X

    def score(self, X, y=None):
        return 1.0


def test_retries_repeat_what_ended_its_process(processes, iris, tmp_path):
    pipe = fg.Pipeline()
    pipe.node("unsteady", Unsteady(str(tmp_path)), retries=2)
    result = processes.submit(
        pipe, action="cross_validate", X=iris[0], y=iris[1], cv=[(range(100), range(100, 150))]
    ).result()
    assert result.outcomes[0].error is None
    assert scores(result)[0] == [1.0]
