"""scikit-learn's tests of cross_validate, cross_val_score and cross_val_predict."""

from tests.foreign.theirs import taken_from

_OURS = ("cross_val", "score", "fit_and_score", "return_")
globals().update(
    {
        name: test
        for name, test in taken_from("test_validation").items()
        if any(word in name for word in _OURS) and "permutation" not in name
    }
)
