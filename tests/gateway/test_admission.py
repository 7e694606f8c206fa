"""What a definition gets on its way in, and what may not run on a platform."""

import json
from dataclasses import replace

import pytest

from gateway.jobs.admission import check_environment, check_travels, parse
from gateway.jobs.errors import EnvironmentMismatch, InvalidDefinition
from tests.doubles import InstantLauncher

DOUBLE = InstantLauncher().capabilities
CODE = {"payload": "sha256:" + "a" * 64, "only_here": ["mine.compiled"]}


def definition(node=None, **more):
    tree = {"name": "tree", "kind": "estimator", "import": "sklearn.tree:DecisionTreeClassifier"}
    inputs = {name: {"dataset": "sklearn.datasets:load_iris", "part": name} for name in ("X", "y")}
    body = {"pipeline": {"nodes": [{**tree, **(node or {})}]}, "inputs": inputs, "action": "cross_validate", **more}
    return parse(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("params", "draws"), [({}, True), ({"random_state": 0}, False), ({"random_state": None}, True)]
)
def test_a_node_that_is_named_by_path_is_signed_with_its_seed_and_its_release(params, draws):
    (node,) = definition({"params": params}).pipeline.nodes
    assert node.signature.draws is draws
    assert node.code.startswith("scikit-learn==")


def test_a_node_with_code_of_another_library_in_it_has_no_release():
    params = {"estimator": {"$node": {"import": "other.trees:Tree"}}}
    (node,) = definition({"import": "sklearn.ensemble:BaggingClassifier", "params": params}).pipeline.nodes
    assert node.signature.type == "classifier"
    assert node.code is None


def test_what_the_user_has_written_is_kept():
    (node,) = definition({"code": "mine==2"}).pipeline.nodes
    assert node.code == "mine==2"


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (definition({"only_here": ["mine.compiled"]}), "node 'tree'"),
        (definition({"stack_cv": CODE}), "node 'tree'"),
        (definition(scoring=CODE), "scoring"),
        (definition(scoring={"own": CODE}), "own"),
        (definition(cv=CODE), "cv"),
    ],
)
def test_code_that_only_the_submitting_machine_has_is_refused_elsewhere_by_name(made, words):
    with pytest.raises(InvalidDefinition, match=rf"{words} imports mine.compiled .*'double'") as caught:
        check_travels(made, DOUBLE)
    assert [fault.rule for fault in caught.value.errors] == ["only_here"]
    check_travels(made, replace(DOUBLE, name="local"))


def test_other_code_runs_anywhere():
    check_travels(definition(), DOUBLE)


LOCK = {"blob": "sha256:" + "b" * 64, "media_type": "text/plain"}
WORKERS = {"python": "3.11.7", "numpy": "2.4.1", "cloudpickle": "3.1.2", "torch": "2.9.0+cpu"}


@pytest.mark.parametrize(
    ("needed", "packages", "told"),
    [
        ({"python": "3.11.9", "numpy": "2.4.6", "cloudpickle": "3.1.2"}, [], []),
        ({"python": "3.12.1", "numpy": "1.26.4", "cloudpickle": "3.1.1"}, [], ["python", "numpy", "cloudpickle"]),
        ({"ray": "2.50.0"}, [], ["ray"]),
        ({"ray": "2.50.0"}, ["ray==2.50.0"], []),
        ({"ray": "2.50.0"}, ["ray==2.51.0"], ["ray"]),
        ({}, ["torch==2.9.0", "fg-extra==1.0"], []),
        ({}, ["torch==2.8.0", "numpy==2.4.0"], ["torch", "numpy"]),
    ],
)
def test_each_difference_between_job_and_workers_is_told_and_packages_may_add_what_is_missing(needed, packages, told):
    made = definition(environment=needed, requirements={**LOCK, "packages": packages})
    if not told:
        check_environment(made, WORKERS)
        return
    with pytest.raises(EnvironmentMismatch) as caught:
        check_environment(made, WORKERS)
    assert [fault.message.partition(":")[0] for fault in caught.value.errors] == told


def test_a_package_without_one_version_is_refused():
    with pytest.raises(InvalidDefinition, match="packages"):
        definition(requirements={**LOCK, "packages": ["fg-extra>=1"]})
