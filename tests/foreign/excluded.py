"""scikit-learn's tests that cannot hold for fits that run elsewhere, each with the reason. Fewer than one in ten."""

EXCLUDED: dict[str, str] = {
    "test_array_api_search_cv_classifier": "needs array libraries that are not installed",
    "test_cross_val_predict_array_api_compliance": "needs array libraries that are not installed",
    "test_multi_metric_search_forwards_metadata": "the estimators write into an object of the caller's process",
    "test_base_estimator_inputs": "the estimators write into lists of the caller's process",
    "test_cross_val_score_score_func": "the scorer writes into a list of the caller's process",
    "test_cv_results": "the scorer draws from a generator of the caller's process, which no call there may move on",
    "test_search_callbacks_propagation": "callbacks inside of fits: those are in other processes",
}
