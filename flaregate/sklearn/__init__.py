"""scikit-learn's searches and cross-validation with their fits done by jobs: the same names, numbers and errors."""

from flaregate.sklearn.search import GridSearchCV, HalvingGridSearchCV, HalvingRandomSearchCV, RandomizedSearchCV
from flaregate.sklearn.validation import cross_val_predict, cross_val_score, cross_validate

__all__ = [
    "GridSearchCV",
    "HalvingGridSearchCV",
    "HalvingRandomSearchCV",
    "RandomizedSearchCV",
    "cross_val_predict",
    "cross_val_score",
    "cross_validate",
]
