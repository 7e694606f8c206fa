"""`sample_weight` where scikit-learn's metadata routing is enabled: it goes to whoever has asked for it.

The one module that asks scikit-learn who that is; imported only where scikit-learn is.
"""

from collections.abc import Collection, Mapping
from typing import Any

from sklearn import get_config
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.metrics import check_scoring
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping

from flaregate.errors import Refused
from flaregate_wire.problems import Code, Fault

WEIGHT = "sample_weight"
_CONSUMER = "consumer"


class Unrouted(Refused, TypeError):
    """Nobody wants the weights: refused, with the type of scikit-learn's error."""


class Unset(Refused, UnsetMetadataPassedError):  # type: ignore[misc]  # scikit-learn has no types
    """Someone takes weights, and has not said whether it wants any: refused, with the type of scikit-learn's error."""

    def __init__(self, message: str, *, code: str = Code.INVALID_DEFINITION, errors: Collection[Fault] = ()) -> None:
        UnsetMetadataPassedError.__init__(self, message=message, unrequested_params={}, routed_params={})
        self.code = str(code)
        self.errors = tuple(errors)


def routing() -> bool:
    """Whether estimators and scorers say themselves what they want."""
    return bool(get_config()["enable_metadata_routing"])


def routed(owner: str, consumer: Any, method: str, weights: Any) -> dict[str, Any]:
    """What an estimator or scorer gets for a method, as scikit-learn would route it.

    Args:
        owner: Where the consumer is, for the message.
        consumer: An estimator or scorer.
        method: `fit` or `score`.
        weights: `sample_weight`, or None.

    Raises:
        UnsetMetadataPassedError: It takes weights, and has not said whether it wants them.
    """
    if weights is None:
        return {}
    router = _router(owner, consumer, method)
    return dict(router.route_params(params={WEIGHT: weights}, caller=method)[_CONSUMER][method])


def _router(owner: str, consumer: Any, method: str) -> MetadataRouter:
    mapping = MethodMapping().add(caller=method, callee=method)
    return MetadataRouter(owner=owner).add(method_mapping=mapping, **{_CONSUMER: consumer})


def check_weights(estimators: Mapping[str, Any], scored: Collection[str], scoring: Any, *, all_known: bool) -> None:
    """Refuse `sample_weight` as scikit-learn does before it fits: where nobody wants it, or someone does not say.

    What a nested estimator has not said is scikit-learn's to tell when it is fitted.

    Args:
        estimators: By the names of their nodes.
        scored: The nodes that are scored.
        scoring: Of the job.
        all_known: Whether these are all that the job has.

    Raises:
        Unrouted: Nobody wants it.
        Unset: Someone takes it, and has not said whether it wants any.
    """
    asked = [(f"node {name!r}", estimator, "fit") for name, estimator in estimators.items()]
    if scored and scoring is not None:
        asked.append(("scoring", check_scoring(scoring=scoring, raise_exc=False), "score"))
    elif scored:
        asked += [(f"node {name!r}", estimator, "score") for name, estimator in estimators.items() if name in scored]
    if all_known and not any(_takes(consumer, method) for _, consumer, method in asked):
        who = "node" if not scored else "node or scorer"
        advice = f"say set_fit_request({WEIGHT}=True) on a node that is to have it, or leave it out"
        message = f"{WEIGHT} is given, and no {who} has asked for it under scikit-learn's metadata routing; {advice}"
        raise Unrouted(message, errors=[_fault(message)])
    for owner, consumer, method in asked:
        try:
            routed(owner, consumer, method, ())
        except UnsetMetadataPassedError as error:
            raise Unset(str(error), errors=[_fault(str(error))]) from error


def _takes(consumer: Any, method: str) -> bool:
    """Whether it, or one within it, wants weights or has not said."""
    try:
        _router(_CONSUMER, consumer, method).validate_metadata(params={WEIGHT: ()}, method=method)
    except TypeError:
        return False
    return True


def _fault(message: str) -> Fault:
    return Fault(pointer=f"/inputs/{WEIGHT}", rule="metadata_routing", message=message)
