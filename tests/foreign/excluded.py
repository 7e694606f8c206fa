"""scikit-learn's tests that cannot hold for fits that run elsewhere, each with the reason. Fewer than one in ten."""

EXCLUDED: dict[str, str] = {
    "test_multi_metric_search_forwards_metadata": "the estimators write into an object of the caller's process",
    "test_search_callbacks_propagation": "callbacks inside of fits: those are in other processes",
}
