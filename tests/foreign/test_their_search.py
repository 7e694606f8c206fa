"""scikit-learn's tests of GridSearchCV and RandomizedSearchCV."""

from tests.foreign.theirs import taken_from

globals().update(taken_from("test_search"))
