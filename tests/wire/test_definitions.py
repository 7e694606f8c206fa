"""What users write: strict, typed, and without a change that the golden schema does not show."""

import json
from pathlib import Path

import jsonschema
import pytest
from pydantic import TypeAdapter, ValidationError

from flaregate_wire.definitions import Code, JobDefinition, Scoring
from flaregate_wire.values import blobs_of, check_value, tag_of

GOLDEN = Path(__file__).parents[1] / "golden" / "job.schema.json"
EXAMPLES = Path(__file__).parents[2] / "examples"
SHA = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32

BODY = {
    "pipeline": {
        "name": "digits",
        "nodes": [
            {"name": "pca", "kind": "estimator", "import": "sklearn.decomposition:PCA", "params": {"whiten": True}},
            {"name": "f", "kind": "function", "import": "numpy:abs"},
            {"name": "both", "kind": "join", "of": ["pca", "f"]},
            {
                "name": "own",
                "kind": "estimator",
                "payload": SHA,
                "signature": {"params": ["k"], "abilities": ["transform"], "type": "other", "draws": False},
            },
        ],
        "edges": [["both", "own"]],
    },
    "action": "search",
    "inputs": {
        "X": {"dataset": "sklearn.datasets:load_digits", "part": "data"},
        "y": {"blob": OTHER, "media_type": "application/x-npy", "size": 3},
    },
    "axes": [{"node": "own", "param": "k", "values": [{"$tuple": [0, 1]}, {"$float": "inf"}, {"$import": "m:f"}]}],
    "scoring": "accuracy",
    "labels": {"branch": "main"},
}


def test_the_schema_is_the_golden_one():
    assert json.loads(GOLDEN.read_text()) == JobDefinition.model_json_schema(by_alias=True), (
        "the wire format changed: run `make golden` and look at the difference"
    )


def test_a_definition_round_trips_and_names_its_blobs():
    definition = JobDefinition.model_validate_json(json.dumps(BODY))
    again = JobDefinition.model_validate_json(definition.model_dump_json(by_alias=True))
    assert again == definition
    assert definition.blobs() == {SHA, OTHER}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.name)
def test_the_examples_fit_the_schema(path):
    body = json.loads(path.read_text())
    jsonschema.validate(body, json.loads(GOLDEN.read_text()))
    JobDefinition.model_validate(body)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pipelin": {}}, "pipelin"),
        ({"resources": {"workers": 2, "min_workers": 3}}, "min_workers"),
        ({"resources": {"workers": 2, "topology": "single"}}, "single"),
        ({"limits": {"timeout": 0}}, "timeout"),
        ({"limits": {"max_cost": "cheap"}}, "max_cost"),
        ({"cv": True}, "number of folds"),
        ({"inputs": {"X": {"datase": "a:b"}}}, "'dataset': 'module:loader'"),
        ({"axes": [{"node": "a", "param": "b", "values": []}]}, "values"),
        ({"axes": [{"node": "a", "param": "b", "values": [{"$tupel": [1]}]}]}, "$tuple"),
        ({"pipeline": {"nodes": [{"name": "a", "kind": "estimator"}]}}, "exactly one"),
        ({"pipeline": {"nodes": [{"name": "a\n", "kind": "estimator", "import": "a:b"}]}}, "control characters"),
        ({"pipeline": {"nodes": []}}, "nodes"),
    ],
)
def test_mistakes_are_refused_by_name(change, words):
    with pytest.raises(ValidationError) as caught:
        JobDefinition.model_validate(BODY | change)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        {"$float": "1.0"},
        {"$import": "nothing"},
        {"$array": "abc"},
        {"$tuple": {}},
        {"$node": {"import": "a:B", "more": 1}},
        {"$tuple": [], "x": 1},
        [[{"$no": 1}]],
        {"$dict": [[1]]},
    ],
)
def test_a_malformed_tag_is_refused(value):
    with pytest.raises(ValueError, match=r"\$"):
        check_value(value)


def test_blobs_of_a_value_are_found_at_any_depth():
    value = {"a": [{"$array": SHA}, {"$node": {"import": "m:C", "params": {"p": {"$payload": SHA}}}}]}
    assert set(blobs_of(value)) == {SHA}
    assert tag_of({"$tuple": []}) == "$tuple"
    assert tag_of({"a": 1}) is None


@pytest.mark.parametrize(
    ("scoring", "kind"),
    [
        ("accuracy", str),
        (["accuracy", "f1"], tuple),
        ({"import": "mine:scorer"}, Code),
        ({"payload": SHA, "code": SHA}, Code),
        ({"import": "accuracy"}, dict),
        ({"own": {"payload": SHA}, "r2": "r2"}, dict),
        (None, type(None)),
    ],
)
def test_a_scorer_is_told_from_a_dict_of_scorers(scoring, kind):
    adapter = TypeAdapter(Scoring)
    assert type(adapter.validate_python(scoring)) is kind
    assert type(adapter.validate_json(json.dumps(scoring))) is kind
