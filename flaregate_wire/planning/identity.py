"""What digests see of a definition's code: what it does, not how it is called or in which bytes it came."""

from pydantic import JsonValue

from flaregate_wire.definitions import Code, EstimatorNode, JoinNode, ModelNode, Node, Scorer, Scoring
from flaregate_wire.values import identity

_OF_CODE = frozenset({"import_", "payload", "params", "code", "only_here"})
_NOT_OF_A_NODE = _OF_CODE | {"name", "signature", "needs", "cache", "stack_cv"}


def code_identity(code: Code) -> dict[str, JsonValue]:
    """Code as digests see it. A payload counts by the digest in `code` where it has one, else by its bytes."""
    seen = code.payload is not None and code.code is not None and code.code.startswith("sha256:")
    found: dict[str, JsonValue] = {
        "import": code.import_,
        "payload": None if seen else code.payload,
        "code": code.code,
        "params": {name: identity(value) for name, value in code.params.items()},
    }
    return {name: value for name, value in found.items() if value}


def scoring_identity(scoring: Scoring) -> JsonValue:
    """What scores a leaf, as digests see it."""
    if isinstance(scoring, dict):
        return [[name, _scorer_identity(scorer)] for name, scorer in scoring.items()]
    return list(scoring) if isinstance(scoring, tuple) else _scorer_identity(scoring)


def _scorer_identity(scorer: Scorer | None) -> JsonValue:
    return code_identity(scorer) if isinstance(scorer, Code) else scorer


def node_identity(node: Node) -> dict[str, JsonValue]:
    """A node as digests see it: its name, its needs and whom it follows are no part of it."""
    if isinstance(node, JoinNode):
        return {"kind": node.kind, "combine": None if node.combine is None else code_identity(node.combine)}
    if isinstance(node, ModelNode):
        return node.model_dump(mode="json", include={"kind", "source", "code"} if node.code else {"kind", "source"})
    rest: dict[str, JsonValue] = node.model_dump(mode="json", exclude=set(_NOT_OF_A_NODE), exclude_defaults=True)
    if isinstance(node, EstimatorNode):
        cv = node.stack_cv
        rest["stack_cv"] = dict(code_identity(cv)) if isinstance(cv, Code) else cv
    return {**code_identity(node), **rest}
