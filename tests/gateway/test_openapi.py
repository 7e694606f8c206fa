"""The HTTP contract: golden, whole, described."""

import json
from pathlib import Path

import pytest

from flaregate_wire.problems import MEDIA_TYPE
from gateway.main import openapi

DOCUMENT = openapi()
OPERATIONS = [(path, verb, found) for path, item in DOCUMENT["paths"].items() for verb, found in item.items()]


def test_it_is_the_golden_one():
    golden = json.loads((Path(__file__).parents[1] / "golden" / "openapi.json").read_text())
    assert golden == json.loads(json.dumps(DOCUMENT)), "make golden, and look at the diff"


def test_version_and_references():
    assert DOCUMENT["openapi"].startswith("3.1")
    text = json.dumps(DOCUMENT)
    known = DOCUMENT["components"]["schemas"]
    used = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert used <= set(known), used - set(known)
    assert {"JobView", "JobDefinition", "Problem", "Order", "EventBatch", "Manifest"} <= set(known)


@pytest.mark.parametrize(("path", "verb", "found"), OPERATIONS)
def test_every_operation_is_described(path, verb, found):
    assert found["summary"]
    assert found["description"]
    assert all(parameter.get("description") or parameter["in"] == "path" for parameter in found.get("parameters", []))
    if "requestBody" in found and "application/json" in found["requestBody"]["content"]:
        assert found["requestBody"]["content"]["application/json"]["example"] is not None
    for status, answer in found["responses"].items():
        assert answer["description"]
        if int(status) >= 400 and path.startswith("/v1/"):
            examples = answer["content"][MEDIA_TYPE]["examples"]
            assert examples, (path, status)


def test_every_error_model_and_field_of_users_is_described():
    for name in ("JobDefinition", "JobView", "Problem", "Resources", "Limits", "BlobOffer"):
        assert DOCUMENT["components"]["schemas"][name]["description"]


def test_only_what_needs_no_token_says_so():
    free = {path for path, _, found in OPERATIONS if found.get("security") == []}
    assert {"/", "/healthz", "/readyz"} <= free
    assert not {path for path in free if path.startswith("/v1/") and not path.startswith("/v1/objects")}
