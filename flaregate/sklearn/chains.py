"""An estimator as the nodes of a job, so that candidates share what they have in common; or as one node."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sklearn.pipeline import Pipeline as Chain

from flaregate.pipelines import NodeRef, Pipeline

WHOLE = "estimator"
"""The name of the node that holds a whole estimator."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """What is fitted, in its order."""

    steps: tuple[tuple[str, Any], ...]
    whole: bool
    """Whether the estimator is one node, and not split into its steps."""

    def place(self, key: str) -> tuple[str, str]:
        """The node and the parameter that a parameter path names."""
        node, _, param = key.partition("__")
        return (WHOLE, key) if self.whole else (node, param)

    def by_node(self, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Parameters of `fit`, each with its node."""
        found: dict[str, dict[str, Any]] = {}
        for key, value in params.items():
            node, param = self.place(key)
            found.setdefault(node, {})[param] = value
        return found

    def pipeline(self, name: str) -> Pipeline:
        """The nodes, one after the other."""
        pipe = Pipeline(name)
        last: NodeRef | None = None
        for node, step in self.steps:
            last = pipe.node(node, step, after=last)
        return pipe

    def fitted(self, estimator: Any, states: Mapping[str, Any]) -> Any:
        """The estimator, not fitted yet, with what its nodes are when fitted."""
        if self.whole:
            return states[WHOLE]
        estimator.steps = [(name, states.get(name, step)) for name, step in estimator.steps]
        return estimator


def whole(estimator: Any) -> Nodes:
    """One node."""
    return Nodes(((WHOLE, estimator),), whole=True)


def nodes_of(estimator: Any, keys: Iterable[str]) -> Nodes:
    """The steps of a scikit-learn Pipeline where each works by itself and no key replaces one; else one node.

    Args:
        estimator: What is evaluated.
        keys: The parameters that differ between candidates, and those of `fit`.
    """
    if type(estimator) is not Chain or estimator.verbose or estimator.transform_input:
        return whole(estimator)
    split = Nodes(tuple((name, step) for name, step in estimator.steps if not _passes(step)), whole=False)
    apart = (
        not _passes(estimator.steps[-1][1])
        and len({name for name, _ in estimator.steps}) == len(estimator.steps)
        and not any("__" in name for name, _ in split.steps)
        and all(hasattr(step, "fit") and hasattr(step, "transform") for _, step in split.steps[:-1])
        and all(_inside(key, split) for key in keys)
    )
    return split if apart else whole(estimator)


def _passes(step: Any) -> bool:
    return step is None or (isinstance(step, str) and step == "passthrough")


def _inside(key: str, split: Nodes) -> bool:
    node, param = split.place(key)
    return bool(param) and any(name == node for name, _ in split.steps)
