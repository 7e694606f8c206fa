"""The rules of SEMANTICS that concern whatever runs tasks, each by the smallest pipeline that shows it."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import config_context
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_score, cross_validate
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier

from flaregate.pipelines import Pipeline
from flaregate.testing.estimators import Careless, Configured, Majority, Marking, Spoiler, marks_in
from flaregate.testing.ran import RunJob
from flaregate.testing.submitting import chain, scores, submit

RTOL = 1e-12


class RuleCases:
    """Mixed into a suite that has a fixture `run`."""

    def test_joins_match_by_source(self, run: RunJob, tmp_path: Path) -> None:
        """Rule 1: two objects through a diamond give two outcomes, and k folds k scores."""
        X, y = load_iris(return_X_y=True)
        pipe = Pipeline()
        top = pipe.node("top", StandardScaler())
        parts = [pipe.node("left", PCA(2, random_state=0), after=top), pipe.node("right", SelectKBest(k=1), after=top)]
        pipe.node("nb", GaussianNB(), after=pipe.join("both", parts))
        objects = {"all": (X, y), "some": (X[::2], y[::2])}
        ran = submit(run, tmp_path, pipe, action="cross_validate", objects=objects, cv=3)
        union = FeatureUnion([("left", PCA(2, random_state=0)), ("right", SelectKBest(k=1))])
        expected = [
            cross_val_score(make_pipeline(StandardScaler(), union, GaussianNB()), *one, cv=3)
            for one in objects.values()
        ]
        assert [outcome.object for outcome in ran.outcomes] == list(objects)
        np.testing.assert_allclose(scores(ran), expected, rtol=RTOL)

    def test_axes_pass_through_joins(self, run: RunJob, tmp_path: Path) -> None:
        """Rule 2."""
        X, y = load_iris(return_X_y=True)
        pipe = Pipeline()
        parts = [pipe.node("a", PCA(random_state=0)), pipe.node("b", SelectKBest())]
        pipe.node("d", KNeighborsClassifier(), after=pipe.join("both", parts))
        axes = {"a__n_components": [1, 2], "b__k": [1, 2]}
        ran = submit(run, tmp_path, pipe, X=X, y=y, axes=axes, cv=3, refit=False)
        assert [tuple(outcome.axes.values()) for outcome in ran.outcomes] == [(1, 1), (1, 2), (2, 1), (2, 2)]
        assert ran.stats.fits == {"a": 6, "b": 6, "d": 12}

    def test_a_chain_of_diamonds_visits_every_node_once(self, run: RunJob, tmp_path: Path) -> None:
        """Rule 3."""
        X, y = load_iris(return_X_y=True)
        pipe = Pipeline()
        last = pipe.node("n0", Marking(str(tmp_path), 0.0))
        for number in range(1, 7):
            parts = [
                pipe.node(f"{side}{number}", Marking(str(tmp_path), shift + number), after=last)
                for side, shift in (("left", 0.25), ("right", 0.5))
            ]
            last = pipe.join(f"n{number}", parts, combine=added)
        pipe.node("nb", GaussianNB(), after=last)
        ran = submit(run, tmp_path, pipe, X=X, y=y)
        assert len(ran.outcomes) == 1
        assert len(ran.outcomes[0].lineage) == len(set(ran.outcomes[0].path)) == 20
        assert set(marks_in(tmp_path).values()) == {1}

    def test_inputs_are_never_changed(self, run: RunJob, tmp_path: Path) -> None:
        """Rule 7: who writes into its input gets a copy, and nobody else sees it."""
        X, y = load_iris(return_X_y=True)
        before = X.copy()
        pipe = Pipeline()
        top = pipe.node("top", StandardScaler())
        pipe.node("after", KNeighborsClassifier(), after=pipe.node("spoiler", Spoiler(), after=top))
        pipe.node("beside", KNeighborsClassifier(), after=top)
        ran = submit(run, tmp_path, pipe, action="cross_validate", X=X, y=y, cv=3)
        chains = [
            make_pipeline(StandardScaler(), Spoiler(), KNeighborsClassifier()),
            make_pipeline(StandardScaler(), KNeighborsClassifier()),
        ]
        np.testing.assert_allclose(scores(ran), [cross_val_score(one, X, y, cv=3) for one in chains], rtol=RTOL)
        np.testing.assert_array_equal(X, before)

    def test_who_writes_into_targets_or_weights_or_new_rows_gets_copies(self, run: RunJob, tmp_path: Path) -> None:
        """Rule 7, while fitting and while scoring."""
        X, y = load_iris(return_X_y=True)
        weights = np.linspace(0.5, 1.5, len(y))
        for scoring in (None, ["accuracy", "f1_macro"]):
            given: dict[str, Any] = {"X": X, "y": y, "cv": 3, "scoring": scoring, "return_train_score": True}
            pipe = chain(("careless", Careless()))
            ran = submit(run, tmp_path, pipe, action="cross_validate", sample_weight=weights, **given)
            expected = cross_validate(Careless(), params={"sample_weight": weights}, **given)
            for name, folds in (ran.outcomes[0].scores or {}).items():
                np.testing.assert_allclose(folds, expected[f"test_{name}"], rtol=RTOL)
            for name, folds in (ran.outcomes[0].train_scores or {}).items():
                np.testing.assert_allclose(folds, expected[f"train_{name}"], rtol=RTOL)

    def test_equal_nodes_in_a_join_are_two_parts_of_it(self, run: RunJob, tmp_path: Path) -> None:
        """Rule 17: they are one task, and give their columns twice."""
        X, y = load_iris(return_X_y=True)
        pipe = Pipeline()
        parts = [pipe.node(name, StandardScaler()) for name in ("one", "two")]
        pipe.node("nb", GaussianNB(), after=pipe.join("both", parts))
        fitted = submit(run, tmp_path, pipe, X=X, y=y).outcomes[0].pipeline()
        assert fitted.named_nodes["nb"].n_features_in_ == 8
        union = FeatureUnion([("one", StandardScaler()), ("two", StandardScaler())])
        expected = make_pipeline(union, GaussianNB()).fit(X, y).predict_proba(X)
        np.testing.assert_allclose(fitted.predict_proba(X), expected, rtol=RTOL)

    def test_equal_nodes_that_draw_draw_each_for_itself(self, run: RunJob, tmp_path: Path) -> None:
        """Else an ensemble of unseeded estimators would be one estimator, many times."""
        X, y = load_iris(return_X_y=True)
        pipe = Pipeline()
        trees = [pipe.node(f"tree{number}", ExtraTreeClassifier(max_features=1)) for number in range(4)]
        pipe.node("nb", GaussianNB(), after=pipe.join("all", trees))
        nodes = submit(run, tmp_path, pipe, X=X, y=y).outcomes[0].pipeline().named_nodes
        assert len({nodes[tree.name].tree_.threshold.tobytes() for tree in trees}) == 4

    def test_each_prefix_is_fitted_once_a_fold(self, run: RunJob, tmp_path: Path) -> None:
        """Rule 13, counted where it happens."""
        X, y = load_iris(return_X_y=True)
        pipe = Pipeline()
        top = pipe.node("top", Marking(str(tmp_path)))
        pipe.node("svc", SVC(), after=top)
        pipe.node("tree", DecisionTreeClassifier(random_state=0), after=top)
        axes = {"top__shift": [1.0, 2.0], "svc__C": [0.1, 1.0, 10.0], "tree__max_depth": [1, 2]}
        submit(run, tmp_path, pipe, X=X, y=y, axes=axes, cv=KFold(3), refit=False)
        assert marks_in(tmp_path) == Counter({"fit 1.0 100": 3, "fit 2.0 100": 3})

    def test_no_predict_on_training_rows_unless_asked(self, run: RunJob, tmp_path: Path) -> None:
        """Rule 13: 30 rows test, 120 train."""
        X, y = load_iris(return_X_y=True)
        for wish, expected in ((False, {"predict 30": 5}), (True, {"predict 30": 5, "predict 120": 5})):
            folder = tmp_path / str(wish)
            folder.mkdir()
            pipe = chain(("majority", Majority(str(folder))))
            submit(run, folder, pipe, action="cross_validate", X=X, y=y, cv=5, return_train_score=wish)
            assert marks_in(folder) == Counter({"fit quiet": 5, **expected})

    def test_no_predict_where_the_best_is_fitted_again(self, run: RunJob, tmp_path: Path) -> None:
        """Rule 13: all 150 rows train, and nobody has asked for a score on them."""
        X, y = load_iris(return_X_y=True)
        folder = tmp_path / "marks"
        folder.mkdir()
        axes = {"majority__way": ["quiet"]}
        pipe = chain(("majority", Majority(str(folder))))
        submit(run, tmp_path, pipe, X=X, y=y, axes=axes, cv=5, return_train_score=True)
        assert marks_in(folder) == Counter({"fit quiet": 6, "predict 30": 5, "predict 120": 5})

    def test_candidates_come_in_order_and_ties_go_to_the_first(self, run: RunJob, tmp_path: Path) -> None:
        """Rule 18: paths by `node()`, keys by node and then by name, whatever order the axes were given in."""
        X, y = load_iris(return_X_y=True)
        pipe = Pipeline()
        top = pipe.node("top", PCA(2))
        pipe.node("second", Majority(str(tmp_path)), after=top)
        pipe.node("third", LogisticRegression(max_iter=200), after=top)
        axes = {"third__C": [1.0, 0.5], "second__way": ["a", "b"], "top__whiten": [True, False], "top__tol": [0.1, 0.2]}
        ran = submit(run, tmp_path, pipe, X=X, y=y, axes=axes, cv=2, refit=False)
        tops = [{"top__tol": tol, "top__whiten": whiten} for tol in (0.1, 0.2) for whiten in (True, False)]
        assert [outcome.axes for outcome in ran.outcomes] == [
            {**above, name: value}
            for name, values in (("second__way", ["a", "b"]), ("third__C", [1.0, 0.5]))
            for above in tops
            for value in values
        ]
        means = [outcome.mean for outcome in ran.outcomes]
        assert ran.result.best.candidate == int(np.argmax(np.asarray(means, dtype=float)))

    def test_warnings_travel(self, run: RunJob, tmp_path: Path) -> None:
        """Rule 19: with the outcome of the candidate that gave them, once."""
        X, y = load_iris(return_X_y=True)
        pipe = chain(("majority", Majority(str(tmp_path))))
        ran = submit(run, tmp_path, pipe, X=X, y=y, axes={"majority__way": ["loud", "quiet"]}, cv=3, refit=False)
        told = [[(one.category, one.message) for one in outcome.warnings] for outcome in ran.outcomes]
        assert told == [[("builtins:UserWarning", "this is loud")], []]

    def test_the_configuration_of_scikit_learn_travels(self, run: RunJob, tmp_path: Path) -> None:
        """Rule 19: it is set around fitting and scoring, and for that job alone."""
        X = np.zeros((6, 1))
        pipe = chain(("configured", Configured()))
        with config_context(assume_finite=True):
            ran = submit(run, tmp_path, pipe, action="cross_validate", X=X, cv=2)
        np.testing.assert_array_equal(scores(ran), [[3.0, 3.0]])
        ran = submit(run, tmp_path, pipe, action="cross_validate", X=X, cv=2)
        np.testing.assert_array_equal(scores(ran), [[0.0, 0.0]])

    def test_a_failure_stops_nobody_else(self, run: RunJob, tmp_path: Path) -> None:
        """A failed candidate is an outcome with its error; its folds have the error score."""
        X, y = load_iris(return_X_y=True)
        pipe = chain(("pca", PCA(random_state=0)), ("nb", GaussianNB()))
        ran = submit(
            run, tmp_path, pipe, X=X, y=y, axes={"pca__n_components": [2, 99]}, cv=3, refit=False, error_score=-1.0
        )
        expected = cross_val_score(make_pipeline(PCA(2, random_state=0), GaussianNB()), X, y, cv=3)
        np.testing.assert_allclose(scores(ran), [expected, [-1.0] * 3], rtol=RTOL)
        error = ran.outcomes[1].error
        assert error is not None
        assert (error.type, "99" in error.message) == ("ValueError", True)


def added(parts: list[Any]) -> Any:
    """The sum of a join's parts."""
    return np.sum(parts, axis=0)
