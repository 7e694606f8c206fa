"""What a job gave: outputs and how they are joined, tables of sweeps and of halving, the best, artifacts as objects."""

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.svm import SVC

import flaregate as fg
from flaregate import fitted
from flaregate.fitted_file import MEDIA_TYPE
from flaregate.outputs import Outputs
from flaregate.payload import encode_data
from tests.sdk.double import URL, Double, end, outcome

X = np.arange(12.0).reshape(6, 2)
Y = np.array([0, 1] * 3)


def cell(number, candidate, acc=None, *, task="a", seed=0, **more):
    return outcome(
        number,
        candidate,
        path=["tune"],
        axes=[["tune", "task", task], ["tune", "seed", seed]],
        scores=None,
        mean=None,
        std=None,
        metrics=None if acc is None else {"acc": acc, "loss": 1 - acc if isinstance(acc, float) else acc},
        **more,
    )


def failed(message="no luck"):
    return {"type": "ValueError", "message": message, "traceback": f"Traceback …\nValueError: {message}"}


def tune(task, seed):
    return {"acc": 1.0}


def swept(events, **options):
    double = Double([*events, end(99)])
    client = fg.Client(URL, "secret", transport=double.transport)
    return client.sweep(tune, axes={"task": ["a", "b"], "seed": [0, 1]}, **options).result()


def mapped(events, double=None, action="map", subject=abs, **options):
    double = double or Double()
    double.events = [*events, end(99)]
    client = fg.Client(URL, "secret", transport=double.transport)
    return client.submit(subject, action=action, **({"X": X} | options)).result()


def block(number, candidate, **more):
    return outcome(number, candidate, path=["absolute"], axes=[], scores=None, mean=None, std=None, **more)


CELLS = [
    cell(1, 0, 0.5),
    cell(2, 2, 0.9, task="b"),
    cell(3, 1, 0.7, seed=1),
    cell(4, 3, None, task="b", seed=1, error=failed()),
]


def test_a_sweeps_table_has_a_row_for_each_cell():
    table = swept(CELLS).table()
    assert list(table.columns) == ["candidate", "task", "seed", "acc", "loss", "error"]
    assert table["task"].tolist() == ["a", "a", "b", "b"]
    assert table["seed"].tolist() == [0, 1, 0, 1]
    assert table["acc"].tolist()[:3] == [0.5, 0.7, 0.9]
    assert np.isnan(table["acc"][3])
    assert table["error"].isna().tolist() == [True, True, True, False]
    assert table["error"][3] == "ValueError: no luck"


def test_a_table_by_groups_has_mean_and_std_and_what_failed():
    result = swept(CELLS, best="max:acc")
    table = result.table(group_by=["task"])
    assert table["task"].tolist() == ["a", "b"]
    assert table["acc_mean"].tolist() == [np.mean([0.5, 0.7]), 0.9]
    assert table["acc_std"].tolist() == [np.std([0.5, 0.7]), 0.0]
    assert (table["n"].tolist(), table["failed"].tolist()) == ([2, 1], [0, 1])
    assert table["best"].tolist() == [1, 2]
    assert [result.outcomes[number].axes["seed"] for number in table["best"]] == [1, 0]
    both = result.table(group_by=["seed", "tune__task"])
    assert both[["seed", "tune__task"]].values.tolist() == [[0, "a"], [1, "a"], [0, "b"], [1, "b"]]
    assert "best" not in swept(CELLS).table(group_by="task")
    bad = result.table(group_by=["task", "seed"])
    assert bad["best"].isna().tolist() == [False, False, False, True]
    assert bad["best"][0] == 0
    assert bad["failed"].tolist() == [0, 0, 0, 1]
    with pytest.raises(fg.Refused, match="'tusk', which is no axis; did you mean 'task'"):
        result.table(group_by=["tusk"])


def test_groups_of_values_that_cannot_be_hashed():
    events = [cell(number, number, 0.5, task=task) for number, task in enumerate(([1, 2], [1, 2], {"k": 1}), 1)]
    table = swept(events).table(group_by=["task"])
    assert table["n"].tolist() == [2, 1]


@pytest.mark.parametrize(("best", "candidate"), [("max:acc", 2), ("min:acc", 0), ("min:loss", 2)])
def test_the_best_of_a_sweep(best, candidate):
    assert swept(CELLS, best=best).best.candidate == candidate


def test_nans_and_cells_without_the_metric_are_never_best_and_ties_go_to_the_first():
    events = [cell(1, 0, {"$float": "nan"}), cell(2, 1), cell(3, 2, 0.5), cell(4, 3, 0.5)]
    assert swept(events, best="max:acc").best.candidate == 2
    with pytest.raises(fg.AmbiguousBest, match=r"max:f1"):
        _ = swept(events, best="max:f1").best
    with pytest.raises(fg.AmbiguousBest, match="name a metric"):
        _ = swept(events).best


def test_outputs_of_a_sweep_that_are_no_numbers():
    result = swept([cell(1, 0, output={"$tuple": [1, "x"]}), cell(2, 1, 0.5)])
    assert [one.output for one in result.outcomes] == [(1, "x"), None]
    assert result.outcomes[1].metrics == {"acc": 0.5, "loss": 0.5}


def test_a_map_gives_its_blocks_in_order_and_joins_them():
    double = Double()
    parts = np.array_split(X, 3)
    for number, part in enumerate(parts):
        item = encode_data(part)
        double.artifacts[f"block-{number}"] = item.read()
        double.media_types[f"block-{number}"] = item.media_type
    result = mapped([block(n, c, artifact=f"block-{c}") for n, c in ((1, 2), (2, 0), (3, 1))], double)
    assert not any(request.url.host == "store.test" for request in double.requests)
    for part, output in zip(parts, result.outputs, strict=True):
        np.testing.assert_array_equal(output, part)
    joined = result.outputs.concat()
    np.testing.assert_array_equal(joined, X)
    joined[0] = 7
    loads = [request for request in double.requests if request.url.host == "store.test"]
    assert len(loads) == 3
    with pytest.raises(fg.NoArtifact, match="'map' fits nothing"):
        result.outcomes[0].pipeline()


def test_a_failed_block_is_named_and_the_others_are_there():
    result = mapped([block(1, 0, output=[1]), block(2, 1, error=failed())])
    with pytest.raises(fg.JobFailed, match=r"block 1 failed: Traceback(.|\n)*no luck") as caught:
        _ = result.outputs
    assert caught.value.result is result
    assert result.outcomes[0].output == [1]


@pytest.mark.parametrize(
    "parts",
    [
        [X[:2], X[2:]],
        [sparse.csr_matrix(X[:2]), sparse.csr_matrix(X[2:])],
        [sparse.csc_array(X[:2]), sparse.csc_array(X[2:])],
        [pd.DataFrame(X[:2]), pd.DataFrame(X[2:])],
        [pd.Series(X[:2, 0]), pd.Series(X[2:, 0])],
        [[1, 2], [3]],
        [(1, 2), (3,)],
    ],
    ids=lambda parts: type(parts[0]).__name__,
)
def test_parts_of_one_kind_are_joined(parts):
    whole = Outputs(parts).concat()
    assert len(whole.toarray() if sparse.issparse(whole) else whole) == sum(
        part.shape[0] if hasattr(part, "shape") else len(part) for part in parts
    )


def test_other_parts_are_not_joined():
    for parts in ([], [1, 2], [X, [1]], [np.float64(1)]):
        with pytest.raises(TypeError, match="are joined"):
            Outputs(parts).concat()


def test_predictions_come_by_object():
    model = SVC().fit(X, Y)
    events = [block(1, 0, object="b", output=[1, 0]), block(2, 0, object="a", output={"$tuple": [1]})]
    result = mapped(events, action="predict", subject=model, X=None, objects={"a": X, "b": X})
    assert [one.object for one in result.outcomes] == ["a", "b"]
    assert result.outputs == [(1,), [1, 0]]
    bad = [block(1, 0, object="b", error=failed())]
    with pytest.raises(fg.JobFailed, match="the object 'b' failed"):
        _ = mapped(bad, action="predict", subject=model, X=None, objects={"a": X, "b": X}).outputs


def test_scores_of_something_fitted_are_numbers():
    model = SVC().fit(X, Y)
    one = [outcome(1, 0, scores={"score": [0.25]}, output=0.25)]
    assert mapped(one, action="score", subject=model, y=Y).outputs == [0.25]
    two = [outcome(1, 0, scores={"f1": [0.25], "recall": [1.0]}, output={"f1": 0.25, "recall": 1.0})]
    scored = mapped(two, action="score", subject=model, y=Y, scoring=["f1", "recall"])
    assert scored.outputs == [{"f1": 0.25, "recall": 1.0}]


def test_a_later_attempt_replaces_what_an_earlier_one_gave():
    early = block(1, 0, object="a", output=[1], attempt=1)
    others = [block(2, 0, object="b", output=[2]), block(3, 0, object="a", output=[3], attempt=2)]
    model = SVC().fit(X, Y)
    objects = {"a": X, "b": X}
    assert mapped([early, *others], action="predict", subject=model, X=None, objects=objects).outputs == [[3], [2]]


def test_rounds_of_halving_are_rows_and_the_best_is_of_the_last():
    rounds = [
        outcome(1, 0, iteration=0, resources=10, mean=0.9),
        outcome(2, 1, iteration=0, resources=10, mean=0.8),
        outcome(3, 2, iteration=1, resources=30, mean=0.6),
    ]
    double = Double([*rounds, end(9)], view={"result": {"outcomes": 3, "failed": 0, "best": 2}})
    pipe = fg.Pipeline("p")
    pipe.node("tree", SVC())
    client = fg.Client(URL, "secret", transport=double.transport)
    result = client.submit(pipe, X=X, y=Y, cv=2, axes={"tree__C": [1, 2]}, strategy="halving").result()
    assert result.table()[["candidate", "iter", "n_resources"]].values.tolist() == [[0, 0, 10], [1, 0, 10], [2, 1, 30]]
    assert (result.best.candidate, result.best.iteration) == (2, 1)
    double.more = {}
    assert client.job("job-1").result().best.mean == 0.6
    grouped = result.table(group_by=["tree__max_depth"])
    assert grouped["mean_test_score_mean"].tolist() == [0.5, 0.55, 0.6]
    with pytest.raises(fg.Refused, match="'tree__C', which is no axis"):
        result.table(group_by=["tree__C"])


def test_what_a_cell_left_is_loaded_by_name(tmp_path):
    double = Double(CELLS)
    model = io.BytesIO()
    fitted.write(model, [fitted.FittedNode("model", "estimator", (), SVC().fit(X, Y))])
    double.artifacts = {"model-1": model.getvalue(), "notes-1": b"plain words"}
    double.media_types = {"model-1": MEDIA_TYPE, "notes-1": "text/plain"}
    job = fg.Client(URL, "secret", transport=double.transport).sweep(tune, axes={"task": ["a"], "seed": [0]})
    assert job.load("model-1").predict(X).tolist() == job.pipeline("model-1").predict(X).tolist()
    with pytest.raises(fg.NoArtifact, match="'notes-1' is a file to download"):
        job.load("notes-1")
    assert job.download("notes-1", tmp_path / "notes").read_bytes() == b"plain words"


def test_an_outcome_is_an_input_of_the_next_job():
    double = Double([outcome(1, 0, scores=None, mean=None, artifact="pipeline-0"), end(2)])
    pipe = fg.Pipeline("p")
    pipe.node("tree", SVC())
    client = fg.Client(URL, "secret", transport=double.transport)
    fit = client.submit(pipe, X=X, y=Y).result()
    assert fit.best.address == "job:job-1/pipeline-0"
    client.submit(fit.best, action="predict", X=X)
    assert double.definition.pipeline.nodes[0].source.artifact == "job:job-1/pipeline-0"


def test_of_several_objects_the_best_has_the_pipeline():
    view = {"result": {"outcomes": 2, "failed": 0, "best": 0}}
    double = Double([outcome(1, 0, object="a", mean=0.5), outcome(2, 0, object="b", mean=0.75), end(3)], view=view)
    double.artifacts["best"] = b""
    pipe = fg.Pipeline("p")
    pipe.node("tree", SVC())
    client = fg.Client(URL, "secret", transport=double.transport)
    objects = {"a": (X, Y), "b": (X, Y)}
    result = client.submit(pipe, objects=objects, cv=2, axes={"tree__C": [1]}).result()
    assert result.best.object == "b"
    assert result.best.address == "job:job-1/best"
    with pytest.raises(fg.NoArtifact):
        _ = result.outcomes[0].address
    assert result.table()["object"].tolist() == ["a", "b"]


async def test_the_awaiting_client_has_the_outputs_when_it_has_the_result():
    double = Double([block(1, 0, artifact="block-0"), block(2, 1, output=[5]), end(9)])
    item = encode_data(X)
    double.artifacts["block-0"] = item.read()
    double.media_types["block-0"] = item.media_type
    async with fg.AsyncClient(URL, "secret", transport=double.transport) as client:
        job = await client.map(abs, X)
        result = await job.result()
        np.testing.assert_array_equal(result.outputs[0], X)
        assert result.outputs[1] == [5]
        sweep = await client.sweep(tune, axes={"task": ["a"], "seed": [1]})
        assert double.definition.action == "sweep"
        with pytest.raises(fg.NoArtifact):
            await client.submit(sweep, action="predict", X=X)


def test_a_client_copies_to_itself_and_pickles_without_its_token():
    import copy
    import pickle

    client = fg.Client(URL, "secret")
    assert copy.deepcopy([client])[0] is client
    data = pickle.dumps(client)
    assert b"secret" not in data
    assert pickle.loads(data).url == URL


def test_a_process_that_needs_one_module_loads_no_client():
    told = "import sys, flaregate.payload; print([m for m in ('httpx', 'rich', 'yaml', 'flaregate.client', 'flaregate_wire.definitions') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_listed():
    assert set(fg.__all__) <= set(dir(fg))
    assert all(getattr(fg, name) is not None for name in fg.__all__)
    assert set(fg.__all__) == set(fg._HOME)
    with pytest.raises(AttributeError, match="has no attribute 'Clint'"):
        _ = fg.Clint
