"""`sample_weight` where scikit-learn's metadata routing is enabled: it goes to whoever has asked for it."""

from typing import Any

from sklearn import get_config
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping

WEIGHT = "sample_weight"
_CONSUMER = "consumer"


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
    router = MetadataRouter(owner=owner)
    router.add(method_mapping=MethodMapping().add(caller=method, callee=method), **{_CONSUMER: consumer})
    return dict(router.route_params(params={WEIGHT: weights}, caller=method)[_CONSUMER][method])
