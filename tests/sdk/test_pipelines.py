"""Building, saving, loading and drawing pipelines, and what is refused on the way; axes."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import flaregate as fg
from flaregate.axes import split_key
from flaregate.candidates import resolve


def diamond():
    pipe = fg.Pipeline("digits")
    scale = pipe.node("scale", StandardScaler())
    pca = pipe.node("pca", PCA(), after=scale)
    best = pipe.node("kbest", SelectKBest(), after="scale")
    both = pipe.join("both", [pca, best])
    pipe.node("svc", SVC(C=2), after=both)
    pipe.node("own", lambda X: X, after=[both])
    return pipe


def test_the_definition_of_a_diamond():
    body = diamond().to_dict()
    assert [node["name"] for node in body["nodes"]] == ["scale", "pca", "kbest", "both", "svc", "own"]
    assert body["edges"] == [["scale", "pca"], ["scale", "kbest"], ["both", "svc"], ["both", "own"]]
    assert body["nodes"][3]["of"] == ["pca", "kbest"]
    assert list(body["payloads"]) == [body["nodes"][5]["payload"]]


@pytest.mark.parametrize("name", ["pipe.json", "pipe.yaml", "pipe.yml"])
def test_a_saved_pipeline_loads_without_the_gateway_and_sends_its_payloads(name, tmp_path):
    pipe = diamond()
    pipe.save(tmp_path / name)
    back = fg.Pipeline.load(tmp_path / name)
    definition, blobs = back.encoded()
    assert set(definition.blobs()) == set(blobs)
    assert back.to_dict() == fg.Pipeline.from_dict(back.to_dict()).to_dict()
    assert back.draw() == pipe.draw()


def test_drawings():
    text = diamond().draw()
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["digits"]
    assert ["both", "join", "←", "pca", "+", "kbest"] in lines
    assert ["svc", "SVC(C)", "←", "both"] in lines
    picture = ET.fromstring(diamond().draw("svg"))
    assert len(picture.findall("{*}rect")) == 6


def test_a_changed_payload_table_is_refused():
    body = diamond().to_dict()
    (entry,) = body["payloads"].values()
    entry["data"] = "AAAA"
    with pytest.raises(fg.Refused, match="not what its name says"):
        fg.Pipeline.from_dict(body)


@pytest.mark.parametrize(
    ("add", "words"),
    [
        (lambda p: p.node("pca", PCA()), "'pca'"),
        (lambda p: p.join("pca", ["scale", "kbest"]), "'pca'"),
        (lambda p: p.node("x", PCA(), after="scal"), "did you mean 'scale'"),
        (lambda p: p.node("x", PCA(), after=["scale", "scale"]), "'scale' twice"),
        (lambda p: p.node("x", PCA(), after=fg.Pipeline("other").node("scale", PCA())), "another pipeline"),
        (lambda p: p.node("x", PCA), "is a class"),
        (lambda p: p.node("x", 3), "'x'"),
        (lambda p: p.node(" x", PCA()), "no name"),
        (lambda p: p.node("", PCA()), "no name"),
        (lambda p: p.join("x", ["pca"]), "two at least"),
        (lambda p: p.join("x", ["pca", "kbest"], combine=3), "not a function"),
        (lambda p: p.join("x", ["pca", "nope"]), "'nope'"),
    ],
)
def test_what_is_refused_while_building(add, words):
    pipe = diamond()
    before = pipe.draw()
    with pytest.raises(fg.Refused, match=words):
        add(pipe)
    assert pipe.draw() == before


@pytest.mark.parametrize("body", [{}, {"nodes": []}, {"nodes": [{"name": "a"}]}, {"nodes": 3}, {"nodes": [], "x": 1}])
def test_nonsense_is_no_pipeline(body):
    with pytest.raises(fg.Refused):
        fg.Pipeline.from_dict(body)


def test_an_estimator_that_cannot_be_looked_at_is_refused_by_name():
    class Shy(SVC):
        def get_params(self, deep=True):
            raise LookupError("not today")

    pipe = fg.Pipeline()
    pipe.node("shy", Shy())
    with pytest.raises(fg.Refused, match="node 'shy' cannot be looked at: LookupError: not today"):
        pipe.to_dict()


def test_an_empty_pipeline_is_refused():
    with pytest.raises(fg.Refused, match="no nodes"):
        fg.Pipeline("empty").to_dict()


def test_a_file_without_a_pipeline_is_refused(tmp_path):
    for text in ("[", "- a", "3"):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(fg.Refused):
            fg.Pipeline.load(tmp_path / "x.json")


def wire(pipe):
    return pipe.encoded()[0]


def test_string_keys_are_split_at_the_longest_node_name_that_fits():
    pipe = fg.Pipeline()
    pipe.node("a", SVC())
    pipe.node("a__b", SVC())
    pipe.node("deep", make_pipeline(StandardScaler(), SVC()))
    assert split_key("a__C", wire(pipe)) == ("a", "C")
    assert split_key("a__b__C", wire(pipe)) == ("a__b", "C")
    assert split_key("deep__svc__C", wire(pipe)) == ("deep", "svc__C")
    assert split_key("a__b__nope", wire(pipe)) == ("a__b", "nope")


def test_a_key_that_fits_two_nodes_is_refused_and_the_tuple_form_taken():
    pipe = fg.Pipeline()
    a = pipe.node("a", make_pipeline(StandardScaler(), SVC()))
    pipe.node("a__svc", SVC())
    with pytest.raises(fg.Refused, match=r"\('a__svc', 'C'\) or \('a', 'svc__C'\)"):
        split_key("a__svc__C", wire(pipe))
    assert split_key(("a", "svc__C"), wire(pipe)) == ("a", "svc__C")
    assert split_key((a, "svc__C"), wire(pipe)) == ("a", "svc__C")


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"nope__C": [1]}, "'nope__C' names no node"),
        ({"svc": [1]}, "names no node"),
        ({3: [1]}, "is no key"),
        ({("svc",): [1]}, "is no key"),
        ({"svc__C": 3}, "needs a list"),
        ({"svc__C": "abc"}, "needs a list"),
        ({"svc__C": []}, "no values"),
        ([{"svc__C": range(2000), "pca__tol": range(2000)}, {"svc__C": [1]}], "4002001 candidates; the limit is"),
    ],
)
def test_axes_that_are_refused(axes, words):
    with pytest.raises(fg.Refused, match=words):
        resolve(axes, wire(diamond()), lambda item: item.sha256)


def test_axes_keep_the_users_own_keys_and_values():
    own_function = lambda X: X  # noqa: E731
    found = resolve(
        {"pca__n_components": np.array([1, 2]), ("svc", "C"): (1.0, 1), "svc__kernel": ["rbf", own_function]},
        wire(diamond()),
        lambda item: item.sha256,
    )
    axes, own = found.axes, found.own
    assert found.samples is None
    assert [(axis.node, axis.param, len(axis.values)) for axis in axes] == [
        ("pca", "n_components", 2),
        ("svc", "C", 2),
        ("svc", "kernel", 2),
    ]
    assert own["svc", "C"].key == ("svc", "C")
    assert type(own["pca", "n_components"].value(axes[0].values[1])) is np.int64
    assert [type(own["svc", "C"].value(value)) for value in axes[1].values] == [float, int]
    assert own["svc", "kernel"].value(axes[2].values[1]) is own_function
    assert json.dumps(axes[1].model_dump()["values"]) == "[1.0, 1]"
