"""The cases at the end of SEMANTICS: the numbers come from scikit-learn in this process."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.pipeline import Pipeline as Chain
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from flaregate.pipelines import Pipeline
from flaregate.testing.estimators import cell, explain
from flaregate.testing.ran import RunJob
from flaregate.testing.submitting import chain, errors, scores, submit

RTOL = 1e-12


class TableCases:
    """Mixed into a suite that has a fixture `run`."""

    def test_a_search_on_digits(self, run: RunJob, tmp_path: Path) -> None:
        """20 candidates, 9 distinct (node, setting) pairs, 25 fits of PCA; every mean of GridSearchCV."""
        X, y = load_digits(return_X_y=True)
        nodes = [("pca", PCA()), ("logistic", LogisticRegression(max_iter=10000, tol=0.1))]
        grid = {"pca__n_components": [5, 15, 30, 45, 64], "logistic__C": list(np.logspace(-4, 4, 4))}
        ran = submit(run, tmp_path, chain(*nodes), X=X, y=y, axes=grid, cv=KFold(5))
        with threadpool_limits(1):
            table = GridSearchCV(Chain(nodes), grid, cv=KFold(5), refit=False).fit(X, y).cv_results_
        place = {tuple(sorted(params.items())): number for number, params in enumerate(table["params"])}
        assert len(ran.outcomes) == 20
        for outcome in ran.outcomes:
            number = place[tuple(sorted(outcome.axes.items()))]
            expected = [table[f"split{fold}_test_score"][number] for fold in range(5)]
            np.testing.assert_allclose((outcome.scores or {})["score"], expected, rtol=RTOL)
            np.testing.assert_allclose(outcome.mean or 0.0, table["mean_test_score"][number], rtol=RTOL)
        assert ran.stats.fits == {"pca": 25, "logistic": 100}

    def test_a_join_on_digits(self, run: RunJob, tmp_path: Path) -> None:
        """cross_val_score of the same FeatureUnion, element by element."""
        X, y = load_digits(return_X_y=True)
        X = X[:, X.std(axis=0) > 1]  # no constant columns: SelectKBest would warn
        pca, best = PCA(10, random_state=0), SelectKBest(k=3)
        pipe = Pipeline()
        parts = [pipe.node("pca", pca), pipe.node("best", best)]
        pipe.node("knn", KNeighborsClassifier(), after=pipe.join("both", parts))
        ran = submit(run, tmp_path, pipe, action="cross_validate", X=X, y=y, cv=StratifiedKFold(10))
        union = make_pipeline(FeatureUnion([("pca", pca), ("best", best)]), KNeighborsClassifier())
        np.testing.assert_allclose(scores(ran), [cross_val_score(union, X, y, cv=StratifiedKFold(10))], rtol=RTOL)

    def test_two_tiers_of_joins(self, run: RunJob, tmp_path: Path) -> None:
        """(10000 × 4) ints, four scalers: numpy.hstack of the parts."""
        X = np.random.RandomState(0).randint(0, 100, (10000, 4))
        scalers = [StandardScaler(), MinMaxScaler(), MaxAbsScaler(), RobustScaler()]
        pipe = Pipeline()
        nodes = [pipe.node(f"s{number}", scaler) for number, scaler in enumerate(scalers)]
        pipe.join("all", [pipe.join("left", nodes[:2]), pipe.join("right", nodes[2:])])
        made = submit(run, tmp_path, pipe, X=X).outcomes[0].pipeline().transform(X)
        assert made.shape == (10000, 16)
        parts = [clone(scaler).fit_transform(X) for scaler in scalers]
        np.testing.assert_allclose(made, np.hstack(parts), rtol=RTOL)

    def test_one_preprocessing_and_four_alternatives(self, run: RunJob, tmp_path: Path) -> None:
        """The preprocessing is fitted once; there are four fitted pipelines."""
        X, y = load_iris(return_X_y=True)
        leaves: dict[str, Any] = {
            "tree3": DecisionTreeClassifier(max_depth=3, random_state=0),
            "tree5": DecisionTreeClassifier(max_depth=5, random_state=0),
            "logistic": LogisticRegression(),
            "forest": RandomForestClassifier(5, random_state=0),
        }
        pipe = Pipeline()
        scale = pipe.node("scale", StandardScaler())
        for name, leaf in leaves.items():
            pipe.node(name, leaf, after=scale)
        ran = submit(run, tmp_path, pipe, X=X, y=y)
        assert ran.stats.fits == {"scale": 1, **dict.fromkeys(leaves, 1)}
        for outcome, leaf in zip(ran.outcomes, leaves.values(), strict=True):
            expected = make_pipeline(StandardScaler(), clone(leaf)).fit(X, y).predict_proba(X)
            np.testing.assert_allclose(outcome.pipeline().predict_proba(X), expected, rtol=RTOL)

    def test_an_explainer_over_blocks_of_rows(self, run: RunJob, tmp_path: Path) -> None:
        """Four blocks through `map`: the unsplit result, in order."""
        X = np.random.RandomState(0).normal(size=(103, 4))
        outputs = submit(run, tmp_path, explain, action="map", X=X, blocks=4).result.outputs
        assert [len(block) for block in outputs] == [len(block) for block in np.array_split(X, 4)]
        np.testing.assert_array_equal(outputs.concat(), explain(X))

    def test_a_sweep_with_a_cell_that_raises(self, run: RunJob, tmp_path: Path) -> None:
        """Tasks × seeds × learning rates: all the other cells' rows, and an error row for each that raises."""
        axes = {"task": ["a", "b"], "seed": [0, 1, 2], "lr": [0.1, 0.2], "way": ["raise"]}
        ran = submit(run, tmp_path, cell, action="sweep", axes=axes)
        assert len(ran.outcomes) == 12
        for outcome in ran.outcomes:
            if (outcome.axes["task"], outcome.axes["seed"]) == ("b", 1):
                assert outcome.error is not None
                assert outcome.error.type == "ArithmeticError"
            else:
                assert outcome.metrics == cell(**outcome.axes)
        assert errors(ran).count("ArithmeticError") == 2
