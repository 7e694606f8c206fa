"""What each action is on the wire: subjects, inputs, candidates that are listed or drawn, and what is refused."""

import numpy as np
import pytest
from scipy.stats import loguniform, randint
from sklearn.datasets import make_classification
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, ParameterGrid, ParameterSampler, ShuffleSplit, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import flaregate as fg
from flaregate import fitted
from flaregate.fitted_file import MEDIA_TYPE
from flaregate.options import JobOptions
from flaregate.submission import prepare
from flaregate.values import decode_value
from flaregate_wire import definitions as wire
from flaregate_wire.planning import plan
from tests.sdk.double import URL, Double

X, Y = make_classification(40, 4, random_state=0)


def made(subject, **options):
    return prepare(subject, JobOptions(**options)).definition


def two_ways():
    pipe = fg.Pipeline("two")
    pca = pipe.node("pca", PCA())
    pipe.node("svc", SVC(), after=pca)
    pipe.node("forest", RandomForestClassifier(), after=pca)
    return pipe


def chain():
    pipe = fg.Pipeline("chain")
    pipe.node("svc", SVC(), after=pipe.node("pca", PCA()))
    return pipe


def searched(pipe, **options):
    return made(pipe, X=X, y=Y, cv=3, **options)


def settings(definition):
    """Each candidate's last node and its values as Python objects, by node__parameter."""
    return [
        (one.path.leaf, {f"{item.node}__{item.param}": decode_value(item.value, None) for item in one.settings})
        for one in plan(definition)
    ]


def test_one_path_draws_what_randomized_search_draws():
    space = {"svc__gamma": loguniform(1e-4, 1), "svc__C": [1, 10, 100], "pca__n_components": randint(1, 4)}
    found = settings(searched(chain(), axes=space, strategy="random", n_iter=25, random_state=3))
    assert [values for _, values in found] == list(ParameterSampler(space, 25, random_state=3))


def test_lists_alone_are_drawn_without_replacement():
    space = {"svc__C": list(range(1, 9)), "pca__n_components": [1, 2, 3]}
    definition = searched(chain(), axes=space, strategy="random", n_iter=10, random_state=0)
    drawn = [values for _, values in settings(definition)]
    assert drawn == list(ParameterSampler(space, 10, random_state=0))
    assert len({tuple(sorted(values.items())) for values in drawn}) == 10
    assert all(len(axis.values) == len(set(axis.values)) for axis in definition.axes)


def test_a_space_that_is_smaller_than_n_iter_warns_as_in_scikit_learn():
    with pytest.warns(UserWarning, match="smaller than n_iter"):
        definition = searched(chain(), axes={"svc__C": [1, 2]}, strategy="random")
    assert len(plan(definition)) == 2


def test_several_dicts_are_drawn_from_as_scikit_learn_does():
    space = [{"svc__C": loguniform(1, 10)}, {"svc__C": [1.0], "svc__gamma": loguniform(0.1, 1)}]
    found = settings(searched(chain(), axes=space, strategy="random", n_iter=12, random_state=1))
    assert [values for _, values in found] == list(ParameterSampler(space, 12, random_state=1))


def test_alternatives_are_a_dict_each():
    space = {"pca__n_components": randint(1, 4), "svc__C": loguniform(1, 10), "forest__max_depth": [2, 3]}
    found = settings(searched(two_ways(), axes=space, strategy="random", n_iter=30, random_state=0))
    expected = list(
        ParameterSampler(
            [
                {"pca__n_components": space["pca__n_components"], "svc__C": space["svc__C"]},
                {"pca__n_components": space["pca__n_components"], "forest__max_depth": [2, 3]},
            ],
            30,
            random_state=0,
        )
    )
    assert [values for _, values in found] == expected
    assert {leaf for leaf, values in found if "svc__C" in values} == {"svc"}
    assert {leaf for leaf, _ in found} == {"svc", "forest"}


def test_a_list_of_dicts_is_the_union_of_grids_in_order():
    grids = [{"svc__C": [1, 10], "svc__kernel": ["linear"]}, {"svc__gamma": [0.1, 0.2], "svc__C": [10]}, {}]
    assert [values for _, values in settings(searched(chain(), axes=grids))] == list(ParameterGrid(grids))


def test_a_grid_goes_along_the_paths_that_it_touches():
    grids = [{"svc__C": [1, 2]}, {"forest__max_depth": [3]}]
    assert settings(searched(two_ways(), axes=grids)) == [
        ("svc", {"svc__C": 1}),
        ("svc", {"svc__C": 2}),
        ("forest", {"forest__max_depth": 3}),
    ]
    only = settings(searched(two_ways(), axes=[{"svc__C": [1]}, {"svc__gamma": [1.0]}]))
    assert only == [("svc", {"svc__C": 1}), ("svc", {"svc__gamma": 1.0}), ("forest", {})]


def test_one_dict_needs_no_list_of_candidates():
    assert searched(chain(), axes={"svc__C": [1, 2, 2]}).samples is None
    assert len(plan(searched(chain(), axes={"svc__C": [1, 2, 2]}))) == 3


def test_halving():
    definition = searched(
        two_ways(),
        axes={"svc__C": [1, 2]},
        strategy="halving",
        factor=2,
        resource="forest__n_estimators",
        min_resources=4,
        max_resources=16,
        aggressive_elimination=True,
        random_state=5,
    )
    assert definition.halving == wire.Halving(
        factor=2,
        resource="forest__n_estimators",
        resource_node="forest",
        resource_param="n_estimators",
        min_resources=4,
        max_resources=16,
        aggressive_elimination=True,
        random_state=5,
    )
    assert definition.samples is None
    plain = searched(two_ways(), axes={"svc__C": loguniform(1, 2)}, strategy="halving", n_iter=7)
    assert (plain.halving.resource, plain.halving.min_resources, plain.halving.factor) == ("n_samples", "exhaust", 3)
    assert len(plan(plain)) == 7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"axes": {"svc__C": loguniform(1, 2)}}, "'svc__C' is a distribution; give strategy='random'"),
        ({"axes": [{"svc__C": loguniform(1, 2)}, {}]}, "strategy='random'"),
        ({"axes": {"svc__C": [1, 2]}, "strategy": "random", "n_iter": 0}, "n_iter is 0"),
        ({"axes": {("nope", "C"): [1, 2]}, "strategy": "random"}, r"\('nope', 'C'\) is on no path"),
        ({"axes": [{("nope", "C"): [1]}, {}]}, "'nope' is no node"),
        ({"axes": [3]}, "a list of dicts; here is a int"),
        ({"axes": {"svc__C": [1], ("svc", "C"): [2]}}, "two axes are on 'svc', 'C'"),
        ({"axes": {"svc__C": [1]}, "strategy": "halving", "factor": 1}, "factor"),
        ({"axes": {"svc__C": [1]}, "strategy": "halving", "resource": "tree__n"}, "'tree__n' names no node"),
        ({"axes": {"svc__C": [1]}, "strategy": "evolve"}, "strategy"),
        ({"requirements": ["torch"]}, "submit with a client"),
        ({"keep": "1d"}, "'forever'"),
        ({"keep": 0}, "keep.*greater than 0"),
        ({"fit_params": {"nope": {"a": 1}}}, "fit_params names 'nope'"),
        ({"fit_params": {"svc": [1]}}, "fit_params of 'svc' is a list"),
        ({"objects": {"a": (X, Y)}}, "either the inputs X and y or several 'objects'"),
        ({"sample_weight": np.ones(3)}, "sample_weight has 3"),
        ({"action": "predict"}, "'pca' is not fitted"),
        ({"action": "sweep"}, "'pca' is no function"),
    ],
)
def test_what_is_refused(options, words):
    with pytest.raises(fg.Refused, match=words):
        searched(chain(), **options)


def test_every_option_is_on_the_wire():
    own = lambda table: 0  # noqa: E731
    prepared = prepare(
        chain(),
        JobOptions(
            X=X,
            y=Y,
            groups=Y,
            sample_weight=np.ones(40),
            fit_params={"svc": {"sample_weight": np.ones(40)}},
            axes={"svc__C": [1, 2]},
            refit=own,
            fail_fast=True,
            unseeded=True,
            warm=3,
            timeout=10,
            max_cost="0.50 USD",
        ),
    )
    definition = prepared.definition
    assert set(definition.inputs) == {"X", "y", "groups", "sample_weight"}
    assert set(definition.fit_params["svc"]["sample_weight"]) == {"$array"}
    assert definition.refit.payload in prepared.blobs
    assert (definition.fail_fast, definition.unseeded, definition.warm) == (True, True, 3)
    assert definition.limits == wire.Limits(timeout=10, max_cost="0.50 USD", retries=1)
    assert definition.blobs() == set(prepared.blobs)


def test_several_objects_and_their_folds():
    objects = {"a": (X, Y), "b": (X[:20], Y[:20]), "c": (fg.dataset("sklearn.datasets:load_iris"), None)}
    definition = made(chain(), objects=objects, action="fit")
    assert [(one.name, one.y is None) for one in definition.objects] == [("a", False), ("b", False), ("c", True)]
    both = {"a": (X, Y), "b": (X[:20], Y[:20])}
    for cv in (StratifiedKFold(3), KFold(3, shuffle=True), ShuffleSplit(2)):
        assert isinstance(made(chain(), objects=both, action="cross_validate", cv=cv).cv, wire.Code)
    folds = [(np.arange(10), np.arange(10, 20))]
    assert made(chain(), objects=both, action="cross_validate", cv=folds).cv.folds == 1
    with pytest.raises(fg.Refused, match="X and y of 'b' have different numbers of rows: X has 20, y has 40"):
        made(chain(), objects={"b": (X[:20], Y)}, action="fit")
    with pytest.raises(fg.Refused, match="'b' is a tuple of 3"):
        made(chain(), objects={"b": (X, Y, Y)}, action="fit")


def test_needs_of_a_node():
    pipe = fg.Pipeline()
    first = pipe.node("rf", RandomForestClassifier(), num_cpus=2, memory=10**9, timeout=5, retries=2, cache=False)
    second = pipe.node("svc", SVC(), after=first, stack_cv=StratifiedKFold(3), stack_method="predict")
    third = pipe.node("lr", LogisticRegression(), after=second, stack_cv=7)
    pipe.node("last", SVC(), after=third)
    again = fg.Pipeline.from_dict(pipe.to_dict())
    for given in (pipe, again):
        rf, svc, lr, last = made(given, X=X, y=Y).pipeline.nodes
        assert rf.needs == wire.Needs(num_cpus=2, memory=10**9, timeout=5, retries=2)
        assert (rf.cache, last.cache, last.needs) == (False, True, wire.Needs())
        assert svc.stack_cv.import_ == "sklearn.model_selection:StratifiedKFold"
        assert (svc.stack_method, lr.stack_cv, last.stack_cv) == ("predict", 7, None)


@pytest.mark.parametrize(
    ("obj", "settings", "words"),
    [
        (SVC(), {"num_cpus": 0}, "node 'n': num_cpus"),
        (SVC(), {"retries": -1}, "node 'n': retries"),
        (SVC(), {"stack_cv": 1}, "stack_cv is 1"),
        (SVC(), {"stack_cv": "five"}, "stack_cv is 'five'"),
        (SVC(), {"stack_method": "score"}, "stack_method is 'score'"),
        (abs, {"stack_cv": 3}, "is a function"),
    ],
)
def test_settings_of_a_node_that_are_refused(obj, settings, words):
    with pytest.raises(fg.Refused, match=words):
        fg.Pipeline().node("n", obj, **settings)


def test_a_fitted_estimator_is_staged_as_a_fitted_pipeline(tmp_path):
    model = make_pipeline(StandardScaler(), SVC()).fit(X, Y)
    prepared = prepare(model, JobOptions(action="predict", X=X))
    (node,) = prepared.definition.pipeline.nodes
    assert (node.kind, node.source.media_type) == ("model", MEDIA_TYPE)
    (tmp_path / "model").write_bytes(prepared.blobs[node.source.blob].read())
    again = fitted.load(tmp_path / "model", trust=True)
    assert again.predict(X).tolist() == model.predict(X).tolist()
    assert set(prepared.definition.environment) == {"python", "cloudpickle", "scikit-learn", "numpy"}
    (same,) = made(again, action="map", X=X, method="predict").pipeline.nodes
    assert same.source.blob in prepare(again, JobOptions(action="map", X=X, method="predict")).blobs


def test_references():
    sha = "sha256:" + "0" * 64
    (node,) = made(fg.ref("job:job-1/best"), action="predict", X=fg.ref(sha)).pipeline.nodes
    assert node.source == wire.Artifact(artifact="job:job-1/best")
    definition = made(fg.ref(sha), action="score", X=fg.ref("job:j/X"), y=fg.ref(sha, media_type="x/y"))
    assert definition.pipeline.nodes[0].source.media_type == MEDIA_TYPE
    assert definition.inputs["X"] == wire.Artifact(artifact="job:j/X")
    assert definition.inputs["y"].media_type == "x/y"
    for address, given, words in (
        ("s3://bucket/key", {}, "its suffix does not say how the data is written; give format"),
        ("http://example.org/x.npy", {}, "https://"),
        ("sha256:12", {}, "is no reference"),
        ("job:1", {}, "is no reference"),
        ("job:1/x", {"column": "a"}, "are for files"),
        ("s3://bucket/x.csv", {"media_type": "text/csv"}, "give 'format'"),
        ("s3://bucket/x.csv", {"columns": ["a"], "column": "b"}, "give one of them"),
    ):
        with pytest.raises(fg.Refused, match=words):
            fg.ref(address, **given)


def test_references_to_files():
    X = fg.ref("s3://bucket/folder/", format="parquet", columns=["a", "b"])
    y = fg.ref("https://host/y.csv", column="label")
    definition = made(chain(), X=X, y=y, cv=KFold(3), action="cross_validate")
    assert definition.inputs["X"].model_dump(exclude_none=True) == {
        "reference": "s3://bucket/folder/",
        "format": "parquet",
        "columns": ("a", "b"),
    }
    assert definition.inputs["y"].column == "label"
    assert definition.cv.import_ == "sklearn.model_selection:KFold", "the head makes the folds"
    assert definition.inputs["X"] == made(chain(), objects={"one": (X, y)}).objects[0].X


@pytest.mark.parametrize(
    ("subject", "options", "words"),
    [
        (SVC(), {"action": "predict"}, "this SVC is not fitted"),
        (SVC().fit(X, Y), {"action": "transform"}, "this SVC has no 'transform'"),
        (SVC().fit(X, Y), {"action": "map"}, "which method"),
        (SVC().fit(X, Y), {"action": "fit"}, "is a SVC, not a flaregate.Pipeline"),
        (abs, {"action": "predict"}, "not a flaregate.Pipeline"),
        (SVC, {"action": "map"}, "not a flaregate.Pipeline"),
        (fg.ref("job:1/best"), {"action": "search", "y": Y}, "'model' is fitted"),
    ],
)
def test_subjects_that_are_refused(subject, options, words):
    with pytest.raises(fg.Refused, match=words):
        made(subject, X=X, **options)


def explain(block, scale=1):
    return block * scale


def finetune(task, seed=0, lr=0.1):
    return {"acc": len(task) + seed * lr}


def test_a_map():
    definition = made(explain, action="map", X=X, blocks=4)
    (node,) = definition.pipeline.nodes
    assert (node.name, node.kind, node.signature.params, definition.blocks) == ("explain", "function", ("scale",), 4)
    assert made(lambda X: X, action="map", X=[1, 2]).pipeline.nodes[0].name == "function"


def test_a_sweep_names_arguments_alone():
    prepared = prepare(
        finetune, JobOptions(action="sweep", axes={"task": ["a", "b"], "seed": range(2), "lr": [0.1]}, best="max:acc")
    )
    definition = prepared.definition
    assert definition.pipeline.nodes[0].signature.params == ("task", "seed", "lr")
    assert [(axis.node, axis.param, axis.key) for axis in definition.axes] == [
        ("finetune", "task", "task"),
        ("finetune", "seed", "seed"),
        ("finetune", "lr", "lr"),
    ]
    assert (len(plan(definition)), definition.best, definition.inputs) == (4, "max:acc", {})
    assert prepared.own["finetune", "task"].key == "task"
    with pytest.raises(fg.Refused, match="no parameter 'tsk'; did you mean 'task'"):
        made(finetune, action="sweep", axes={"tsk": [1]})


def test_a_sweep_over_a_pipeline_of_functions():
    pipe = fg.Pipeline("tune")
    base = pipe.node("base", lambda seed: seed)
    pipe.node("tune", lambda base, seed, lr: {"acc": lr}, after=base)
    axes = {"lr": [1, 2], "base__seed": [0, 1], ("tune", "seed"): [5]}
    definition = made(pipe, action="sweep", axes=axes)
    assert len(plan(definition)) == 4
    assert len(plan(made(fg.Pipeline.from_dict(pipe.to_dict()), action="sweep", axes={"tune__lr": [1]}))) == 1
    with pytest.raises(fg.Refused, match="fits several nodes"):
        made(pipe, action="sweep", axes={"seed": [1]})


def test_the_clients_own_names_for_it():
    double = Double()
    with fg.Client(URL, "secret", transport=double.transport, warm=7) as client:
        client.map(explain, X, blocks=2, workers=1)
        assert (double.definition.action, double.definition.blocks, double.definition.warm) == ("map", 2, 7)
        client.sweep(finetune, axes={"task": ["a"]}, best="min:acc")
        assert (double.definition.action, double.definition.best) == ("sweep", "min:acc")
        client.submit(SVC().fit(X, Y), action="predict", X=X)
        assert double.definition.pipeline.nodes[0].source.blob in double.blobs


def test_a_job_stands_for_the_pipeline_that_it_left():
    double = Double()
    with fg.Client(URL, "secret", transport=double.transport) as client:
        job = client.submit(chain(), X=X, y=Y)
        with pytest.raises(fg.NoArtifact, match="no fitted pipeline"):
            client.submit(job, action="predict", X=X)
        double.artifacts = {"pipeline-0": b"", "table": b""}
        double.media_types = dict.fromkeys(["pipeline-0", "pipeline-1", "best"], MEDIA_TYPE)
        client.submit(job, action="predict", X=X)
        assert double.definition.pipeline.nodes[0].source.artifact == "job:job-1/pipeline-0"
        double.artifacts["pipeline-1"] = b""
        with pytest.raises(fg.AmbiguousBest, match="2 pipelines"):
            client.submit(job, action="predict", X=X)
        double.artifacts["best"] = b""
        client.submit(job, action="predict", X=X)
        assert double.definition.pipeline.nodes[0].source.artifact == "job:job-1/best"
