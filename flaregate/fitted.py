"""A fitted pipeline as an estimator, made of the nodes of one path. Needs scikit-learn, never Ray or a gateway."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from sklearn.base import BaseEstimator
from sklearn.utils.metaestimators import available_if

from flaregate.errors import NoArtifact
from flaregate.fitted_file import File, FittedNode, read, write
from flaregate.parts import transforms

__all__ = ["FittedNode", "FittedPipeline", "load", "write"]


def _last_has(method: str) -> Callable[[Callable[..., Any]], Any]:
    def has(self: "FittedPipeline") -> bool:
        last = self.nodes[-1]
        return last.kind == "estimator" and hasattr(last.state, method)

    return cast("Callable[[Callable[..., Any]], Any]", available_if(has))


def _can_transform(self: "FittedPipeline") -> bool:
    last = self.nodes[-1]
    return last.kind != "estimator" or transforms(last.state)


class FittedPipeline(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The fitted nodes of one path, predecessors first. `fit` changes nothing; cloning gives the same object."""

    def __init__(self, nodes: Sequence[FittedNode]) -> None:
        self.nodes = nodes

    def _into_last(self, X: Any) -> list[Any]:  # noqa: N803
        made: dict[str, Any] = {}
        for node in self.nodes:
            parts = [made[name] for name in node.inputs] if node.inputs else [X]
            if node is self.nodes[-1]:
                return parts
            made[node.name] = node.output(parts)
        return [X]

    def _call(self, method: str, X: Any, *rest: Any, **params: Any) -> Any:  # noqa: N803
        (part,) = self._into_last(X)
        return getattr(self.nodes[-1].state, method)(part, *rest, **params)

    def fit(self, X: Any, y: Any = None) -> "FittedPipeline":  # noqa: N803
        """Change nothing: it is fitted."""
        return self

    @_last_has("predict")
    def predict(self, X: Any, **params: Any) -> Any:  # noqa: N803
        """The last node's predictions for new rows."""
        return self._call("predict", X, **params)

    @_last_has("predict_proba")
    def predict_proba(self, X: Any, **params: Any) -> Any:  # noqa: N803
        """The last node's probabilities, a column for each of `classes_`."""
        return self._call("predict_proba", X, **params)

    @_last_has("decision_function")
    def decision_function(self, X: Any) -> Any:  # noqa: N803
        """The last node's decision values."""
        return self._call("decision_function", X)

    @available_if(_can_transform)  # type: ignore[untyped-decorator]
    def transform(self, X: Any) -> Any:  # noqa: N803
        """What the whole path makes of new rows."""
        last = self.nodes[-1]
        return last.output(self._into_last(X))

    @_last_has("score")
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:  # noqa: N803
        """The last node's own score."""
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        return self._call("score", X, y, **weights)

    @property
    def named_nodes(self) -> dict[str, Any]:
        """The fitted object of each node, by name."""
        return {node.name: node.state for node in self.nodes}

    @property
    def classes_(self) -> Any:
        """The labels that the last node knows."""
        return self.nodes[-1].state.classes_

    @property
    def n_features_in_(self) -> int:
        """The number of columns that the path takes."""
        return int(self._root("n_features_in_").n_features_in_)

    @property
    def feature_names_in_(self) -> Any:
        """The columns' names, where it was fitted on a frame."""
        return self._root("feature_names_in_").feature_names_in_

    def _root(self, attribute: str) -> Any:
        """The first node that takes X and has the attribute; the first that takes X if none has."""
        roots = [node.state for node in self.nodes if not node.inputs]
        return next((root for root in roots if hasattr(root, attribute)), roots[0])

    def to_sklearn(self) -> Any:
        """The same as a scikit-learn Pipeline; raises NoArtifact where the path is not a chain of transformers."""
        from sklearn.pipeline import Pipeline  # noqa: PLC0415
        from sklearn.preprocessing import FunctionTransformer  # noqa: PLC0415

        for node in self.nodes:
            stacks = node.kind == "estimator" and node is not self.nodes[-1] and not transforms(node.state)
            if node.kind == "join" or stacks:
                what = "joins" if node.kind == "join" else "stacks"
                raise NoArtifact(f"node {node.name!r} {what}; a scikit-learn Pipeline is a chain of transformers")
        return Pipeline(
            [
                (node.name, FunctionTransformer(node.state) if node.kind == "function" else node.state)
                for node in self.nodes
            ]
        )

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_clone__(self) -> "FittedPipeline":
        return self

    def __sklearn_tags__(self) -> Any:
        last = self.nodes[-1].state
        return last.__sklearn_tags__() if hasattr(last, "__sklearn_tags__") else super().__sklearn_tags__()


def load(path: File, *, trust: bool = False) -> FittedPipeline:
    """The fitted pipeline of a file; see flaregate.fitted_file.read for what is checked and raised."""
    return FittedPipeline(read(path, trust=trust))
