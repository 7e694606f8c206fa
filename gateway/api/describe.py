"""The OpenAPI document: what FastAPI cannot see of routes that read their bodies themselves."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from flaregate_wire.attempts import (
    CacheFetch,
    CacheKeep,
    CacheLookup,
    EventBatch,
    HeadAddress,
    LargeObject,
    Manifest,
    ObjectsRequest,
)
from flaregate_wire.blobs import BlobOffer
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.problems import MEANING, MEDIA_TYPE, STATUS, Code, Problem

BODIES: tuple[type[BaseModel], ...] = (
    JobDefinition,
    BlobOffer,
    CacheFetch,
    CacheKeep,
    CacheLookup,
    EventBatch,
    HeadAddress,
    LargeObject,
    Manifest,
    ObjectsRequest,
    Problem,
)
_REF = "#/components/schemas/{model}"
JOB_EXAMPLE = {
    "pipeline": {
        "name": "digits",
        "nodes": [
            {"name": "pca", "kind": "estimator", "import": "sklearn.decomposition:PCA"},
            {"name": "logistic", "kind": "estimator", "import": "sklearn.linear_model:LogisticRegression"},
        ],
        "edges": [["pca", "logistic"]],
    },
    "action": "search",
    "inputs": {
        "X": {"dataset": "sklearn.datasets:load_digits", "part": "data"},
        "y": {"dataset": "sklearn.datasets:load_digits", "part": "target"},
    },
    "axes": [{"node": "pca", "param": "n_components", "values": [15, 30]}],
}


def takes(model: type[BaseModel], example: Any) -> dict[str, Any]:
    """The request body of a route that reads it itself."""
    schema = {"$ref": _REF.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}


def problems(*codes: Code) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, beside those that every route has."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in (*codes, Code.UNAUTHORIZED, Code.FOREIGN_HOST, Code.FOREIGN_ORIGIN, Code.INTERNAL):
        status = STATUS[code]
        entry = found.setdefault(status, {"description": "", "content": {MEDIA_TYPE: {"examples": {}}}})
        entry["description"] = "; ".join(filter(None, [entry["description"], f"`{code}`: {MEANING[code]}"]))
        content = entry["content"][MEDIA_TYPE]
        content["schema"] = {"$ref": _REF.format(model="Problem")}
        content["examples"][str(code)] = {
            "value": {"title": MEANING[code], "status": status, "detail": MEANING[code], "code": str(code)}
        }
    return found


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document, with the models of every body."""
    found = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, openapi_version="3.1.0"
    )
    _, definitions = models_json_schema([(model, "validation") for model in BODIES], ref_template=_REF, by_alias=True)
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    for name, schema in definitions["$defs"].items():
        schemas.setdefault(name, schema)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for path in found["paths"].values():
        for operation in path.values():
            answers = operation.get("responses", {})
            if "HTTPValidationError" in str(answers.get("422", "")):
                answers["422"] = problems(Code.INVALID_REQUEST)[422]
    found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    found["security"] = [{"token": []}]
    return found
