"""scikit-learn's tests of HalvingGridSearchCV and HalvingRandomSearchCV."""

from tests.foreign.theirs import taken_from

globals().update(taken_from("test_successive_halving"))
