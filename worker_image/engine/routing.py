"""`sample_weight` where scikit-learn's metadata routing is enabled: it goes to whoever has asked for it."""

from typing import Any

from sklearn import get_config
from sklearn.utils.metadata_routing import get_routing_for_object

WEIGHT = "sample_weight"


def routing() -> bool:
    """Whether estimators and scorers say themselves what they want."""
    return bool(get_config()["enable_metadata_routing"])


def routed(consumer: Any, method: str, weights: Any) -> dict[str, Any]:
    """What an estimator or scorer gets for this method (`fit`, `score`)."""
    asks = weights is not None and get_routing_for_object(consumer).consumes(method, [WEIGHT])
    return {WEIGHT: weights} if asks else {}
