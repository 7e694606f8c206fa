"""The drop-ins give what scikit-learn gives: numbers, attributes, errors, warnings. The engine runs in this process."""

import copy
import pickle
import warnings
from dataclasses import replace
from inspect import signature

import numpy as np
import pandas as pd
import pytest
from scipy.stats import loguniform
from sklearn import model_selection
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC
from sklearn.utils._test_common.instance_generator import PER_ESTIMATOR_XFAIL_CHECKS
from sklearn.utils.estimator_checks import check_estimator

from flaregate import sklearn as drop_ins
from flaregate.sklearn.raising import TaskFailed
from flaregate.sklearn.shared import SHARED, SharedClient
from flaregate.testing import InProcessClient
from flaregate_wire.definitions import Action
from flaregate_wire.events import ErrorDetail
from worker_image.in_process import in_process

X, Y = load_iris(return_X_y=True)
WEIGHTS = np.linspace(0.1, 2, len(Y))
GRID = {"pca__n_components": [2, 3], "svc__C": [0.1, 1, 10]}


class Recording(InProcessClient):
    """Keeps the definitions that were sent, and the results."""

    def __init__(self):
        super().__init__(in_process)
        self.sent = []
        self.jobs = []

    def send(self, submission):
        self.sent.append(submission.definition)
        self.jobs.append(super().send(submission))
        return self.jobs[-1]

    @property
    def actions(self):
        return [definition.action for definition in self.sent]


@pytest.fixture
def client():
    with Recording() as recording, SHARED.lend(recording):
        yield recording


def chain():
    return Pipeline([("scale", StandardScaler()), ("pca", PCA(random_state=0)), ("svc", SVC())])


def equal(ours, theirs):
    """Tables of results are equal but for times."""
    assert list(ours) == list(theirs)
    for name, column in theirs.items():
        if "_time" not in name and name != "estimator":
            np.testing.assert_array_equal(
                *(np.ma.filled(np.ma.asarray(one, object), None) for one in (ours[name], column))
            )


def both(name, *args, fit=None, data=(X, Y), **options):
    """The drop-in and scikit-learn's own search, fitted alike."""
    ours = getattr(drop_ins, name)(*args, **options).fit(*data, **(fit or {}))
    theirs = getattr(model_selection, name)(*args, **options).fit(*data, **(fit or {}))
    equal(ours.cv_results_, theirs.cv_results_)
    known = {attribute for attribute in vars(theirs) if attribute.endswith("_")}
    assert known == {attribute for attribute in vars(ours) if attribute.endswith("_")}
    return ours, theirs


@pytest.mark.parametrize("name", drop_ins.__all__)
def test_signatures_are_scikit_learns_and_two_arguments_more(name):
    ours, theirs = (list(signature(getattr(place, name)).parameters) for place in (drop_ins, model_selection))
    assert ours == [*theirs, "client", "job_options"]


def test_a_pipeline_shares_its_prefixes(client):
    ours, theirs = both("GridSearchCV", chain(), GRID, return_train_score=True)
    assert client.actions == [Action.SEARCH]
    assert client.jobs[0].result().stats.fits == {"scale": 5, "pca": 10, "svc": 30}
    assert ours.best_params_ == theirs.best_params_
    assert ours.best_score_ == theirs.best_score_
    assert type(ours.best_estimator_) is Pipeline
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    np.testing.assert_array_equal(ours.decision_function(X), theirs.decision_function(X))
    assert ours.refit_time_ > 0


@pytest.mark.parametrize(
    ("estimator", "grid"),
    [
        (SVC(), {"C": [1, 10], "kernel": ["rbf", "linear"]}),
        (chain(), [{"pca__n_components": [2]}, {"svc__C": [1, 2], "svc__gamma": ["auto"]}]),
        (chain(), {"pca": [PCA(2), "passthrough", MinMaxScaler()], "svc__C": [1, 2]}),
        (Pipeline([("no", "passthrough"), ("estimator", SVC())]), {"estimator__C": [1, 2]}),
        (make_pipeline(make_pipeline(StandardScaler(), PCA(2)), SVC()), {"pipeline__pca__n_components": [1, 2]}),
        (make_pipeline(ColumnTransformer([("a", PCA(1), [0, 1])]), SVC()), {"columntransformer__a": [PCA(1), PCA(2)]}),
        (make_pipeline(StandardScaler(), SVC()), {}),
    ],
    ids=["estimator", "grids", "steps", "passthrough", "nested", "columns", "nothing"],
)
def test_numbers_are_equal(client, estimator, grid):
    ours, theirs = both("GridSearchCV", estimator, grid, cv=3)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    assert client.actions == [Action.SEARCH]


def test_a_pipeline_with_a_memory_is_split_and_keeps_it_when_refitted(client, tmp_path):
    ours, _ = both("GridSearchCV", chain().set_params(memory=str(tmp_path)), GRID, cv=3)
    assert ours.best_estimator_.memory == str(tmp_path)


@pytest.mark.parametrize("name", ["HalvingGridSearchCV", "HalvingRandomSearchCV"])
def test_halving_sends_a_job_for_each_iteration(client, name):
    space = {"svc__C": [0.1, 1, 10, 100, 1000, 2000, 3000, 4000, 5000]}
    ours, theirs = both(name, chain(), space, random_state=0, min_resources=30)
    assert ours.n_iterations_ == theirs.n_iterations_ == len(client.sent) - 1
    assert ours.best_params_ == theirs.best_params_
    assert ours.best_score_ == theirs.best_score_


def test_random_candidates_are_drawn_as_scikit_learn_draws(client):
    space = {"svc__C": loguniform(1e-2, 1e2), "pca__n_components": [2, 3]}
    both("RandomizedSearchCV", chain(), space, n_iter=6, random_state=3, cv=3)
    assert len(client.sent[0].samples) == 6


@pytest.mark.parametrize(
    ("scoring", "refit", "actions"),
    [
        ("balanced_accuracy", True, [Action.SEARCH]),
        (["accuracy", "f1_macro"], "f1_macro", [Action.SEARCH]),
        ({"a": "accuracy", "b": make_scorer(accuracy_score, normalize=False)}, "b", [Action.SEARCH]),
        (make_scorer(accuracy_score), True, [Action.SEARCH]),
        (lambda whole, X, y: len(whole.steps) + whole.score(X, y), True, [Action.SWEEP, Action.FIT]),
        (
            lambda whole, X, y: {"steps": len(whole.steps), "score": whole.score(X, y)},
            "score",
            [Action.SWEEP, Action.FIT],
        ),
        (
            ["accuracy", "f1_macro"],
            lambda table: int(np.argmin(table["mean_test_accuracy"])),
            [Action.SEARCH, Action.FIT],
        ),
        ("accuracy", False, [Action.SEARCH]),
    ],
    ids=["name", "names", "dict", "scorer", "callable", "several of one callable", "refit callable", "no refit"],
)
def test_scoring_and_refit(client, scoring, refit, actions):
    ours, theirs = both("GridSearchCV", chain(), GRID, cv=3, scoring=scoring, refit=refit, return_train_score=True)
    assert client.actions == actions
    assert ours.best_index_ == theirs.best_index_
    assert ours.multimetric_ == theirs.multimetric_


def test_weights_reach_fit_and_scorer_as_in_scikit_learn(client):
    both("GridSearchCV", SVC(), {"C": [1, 10]}, cv=3, fit={"sample_weight": WEIGHTS})
    assert client.actions == [Action.SWEEP, Action.FIT]
    both("GridSearchCV", chain(), {"svc__C": [1, 10]}, cv=3, fit={"svc__sample_weight": WEIGHTS})
    assert client.actions[2:] == [Action.SEARCH]
    assert set(client.sent[2].fit_params) == {"svc"}


def test_groups_and_frames(client):
    frame = pd.DataFrame(X, columns=list("abcd"))
    groups = np.arange(len(Y)) % 7
    ours, theirs = both(
        "GridSearchCV", chain(), GRID, cv=model_selection.GroupKFold(4), fit={"groups": groups}, data=(frame, Y)
    )
    assert list(ours.feature_names_in_) == list(theirs.feature_names_in_) == list("abcd")
    assert ours.n_features_in_ == 4


def test_precomputed_kernels_are_cut_on_both_sides(client):
    both("GridSearchCV", SVC(kernel="precomputed"), {"C": [1, 10]}, data=(X @ X.T, Y), cv=3)


class Picky(ClassifierMixin, BaseEstimator):
    """Fails with one parameter."""

    def __init__(self, bad=False):
        self.bad = bad

    def fit(self, X, y):
        if self.bad:
            raise NotFittedError("as asked: never")
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.zeros(len(X))


def fit_with_warnings(place, **options):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        search = place.GridSearchCV(Picky(), {"bad": [False, True]}, cv=3, **options).fit(X, Y)
    return search, [warning for warning in seen if issubclass(warning.category, FitFailedWarning | UserWarning)]


def test_failed_fits_have_the_error_score_and_scikit_learns_warnings(client):
    ours, our_warnings = fit_with_warnings(drop_ins, error_score=-3)
    theirs, their_warnings = fit_with_warnings(model_selection, error_score=-3)
    equal(ours.cv_results_, theirs.cv_results_)
    assert [item.category for item in our_warnings] == [item.category for item in their_warnings]
    ((first, *_),) = [str(item.message).strip().splitlines() for item in our_warnings]
    assert first == "3 fits failed out of a total of 6."


def test_all_fits_failing_is_scikit_learns_error(client):
    with pytest.raises(ValueError, match="All the 3 fits failed"):
        drop_ins.GridSearchCV(Picky(bad=True), {}, cv=3).fit(X, Y)


def test_error_score_raise_raises_the_fits_own_error(client):
    with pytest.raises(NotFittedError, match=r"^as asked: never$"):
        drop_ins.GridSearchCV(Picky(), {"bad": [False, True]}, error_score="raise", cv=3).fit(X, Y)
    with pytest.raises(ValueError, match="Invalid parameter 'what' for estimator Picky"):
        drop_ins.GridSearchCV(Picky(), {"what": [1]}, cv=3).fit(X, Y)


class Dying:
    """A job whose process died in each fit with C=10."""

    def __init__(self, job):
        self.job = job

    def result(self):
        result = self.job.result()
        error = ErrorDetail(type="WorkerDied", message="exit code 9")
        dead = [10 in outcome.axes.values() or {"C": 10} in outcome.axes.values() for outcome in result.outcomes]
        return replace(
            result,
            outcomes=[
                replace(outcome, error=error if died else None)
                for outcome, died in zip(result.outcomes, dead, strict=True)
            ],
        )


def test_a_fit_that_kills_its_process_is_a_failed_fit(client):
    class Deadly:
        def send(self, submission):
            return Dying(client.send(submission))

    search = drop_ins.GridSearchCV(SVC(), {"C": [1, 10]}, cv=3, error_score=-1, client=Deadly())
    with pytest.warns(FitFailedWarning, match="WorkerDied: exit code 9"):
        search.fit(X, Y)
    assert search.cv_results_["mean_test_score"][1] == -1
    assert search.best_params_ == {"C": 1}
    assert client.actions == [Action.SEARCH, Action.SWEEP, Action.FIT]
    with pytest.raises(TaskFailed, match="WorkerDied: exit code 9"):
        search.set_params(error_score="raise").fit(X, Y)


def test_a_failing_refit_raises_and_leaves_no_estimator(client):
    search = drop_ins.GridSearchCV(Picky(), {"bad": [False, True]}, refit=lambda table: 1, cv=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(NotFittedError):
            search.fit(X, Y)
    assert not hasattr(search, "best_estimator_")


class Full(GaussianNB):
    """Cannot be fitted on all rows."""

    def fit(self, X, y):
        if len(X) == len(Y):
            raise ValueError("too many")
        return super().fit(X, y)


def test_a_refit_that_fails_within_the_search_raises_its_own_error(client):
    search = drop_ins.GridSearchCV(Full(), {"var_smoothing": [1e-9]}, cv=3)
    with pytest.raises(ValueError, match=r"^too many$"):
        search.fit(X, Y)


def test_a_tie_that_is_broken_otherwise_here_is_refitted_here(client):
    """scikit-learn's own choice counts: where the search has refitted another candidate, a further job fits it."""

    class Last(drop_ins.GridSearchCV):
        @staticmethod
        def _select_best_index(refit, refit_metric, results):
            return len(results["params"]) - 1

    search = Last(SVC(), {"C": [10, 0.001]}, cv=3).fit(X, Y)
    assert client.actions == [Action.SEARCH, Action.FIT]
    assert search.best_estimator_.C == 0.001
    assert search.best_estimator_.n_support_.sum() > 0


def test_what_scikit_learn_refuses_is_refused_before_anything_is_sent(client):
    with pytest.raises(ValueError, match="multi-metric"):
        drop_ins.GridSearchCV(SVC(), {"C": [1]}, scoring=["accuracy", "f1_macro"]).fit(X, Y)
    with pytest.raises(ValueError, match="n_splits=5 greater than"):
        drop_ins.cross_validate(SVC(), X[:4], Y[:4], cv=model_selection.KFold(5))
    assert client.sent == []


def test_cross_validate(client):
    options = {"scoring": ("accuracy", "f1_macro"), "return_train_score": True, "return_indices": True, "cv": 4}
    ours = drop_ins.cross_validate(chain(), X, Y, **options)
    theirs = model_selection.cross_validate(chain(), X, Y, **options)
    for part in ("train", "test"):
        for one, other in zip(ours["indices"][part], theirs["indices"][part], strict=True):
            np.testing.assert_array_equal(one, other)
    del ours["indices"], theirs["indices"]
    equal(ours, theirs)
    assert client.actions == [Action.SEARCH]


def test_cross_validate_gives_fitted_estimators(client):
    ours = drop_ins.cross_validate(SVC(), X, Y, return_estimator=True, cv=3)
    theirs = model_selection.cross_validate(SVC(), X, Y, return_estimator=True, cv=3)
    equal(ours, theirs)
    for one, other in zip(ours["estimator"], theirs["estimator"], strict=True):
        np.testing.assert_array_equal(one.dual_coef_, other.dual_coef_)


def test_cross_val_score(client):
    for scoring in (None, "f1_macro", lambda whole, X, y: whole.score(X, y) / 2):
        ours = drop_ins.cross_val_score(chain(), X, Y, scoring=scoring)
        np.testing.assert_array_equal(ours, model_selection.cross_val_score(chain(), X, Y, scoring=scoring))


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "decision_function"])
def test_cross_val_predict(client, method):
    model = LogisticRegression()
    ours = drop_ins.cross_val_predict(model, X, Y, method=method, cv=3, params={"sample_weight": WEIGHTS})
    theirs = model_selection.cross_val_predict(model, X, Y, method=method, cv=3, params={"sample_weight": WEIGHTS})
    np.testing.assert_array_equal(ours, theirs)


def test_what_may_draw_serves_no_other_job(client):
    for estimator, shared in ((SVC(), False), (SVC(random_state=0), True), (GaussianNB(), True)):
        drop_ins.cross_val_predict(estimator, X, Y, cv=3)
        assert client.sent[-1].pipeline.nodes[0].cache is shared
    space = {"svc": [SVC(random_state=0), SVC()], "svc__C": [1]}
    whole = chain().set_params(svc__random_state=0)
    drop_ins.GridSearchCV(whole, space, scoring=lambda whole, X, y: 1.0, cv=3, refit=False).fit(X, Y)
    assert client.sent[-1].pipeline.nodes[0].cache is False


def test_job_options_go_with_every_job(client):
    search = drop_ins.GridSearchCV(SVC(), {"C": [1]}, job_options={"labels": {"team": "a"}, "cache": "off"}, cv=3)
    search.fit(X, Y)
    search.set_params(scoring=lambda whole, X, y: 0.0).fit(X, Y)
    assert client.actions == [Action.SEARCH, Action.SWEEP, Action.FIT]
    assert [dict(sent.labels) for sent in client.sent] == [{"team": "a"}] * 3
    assert {sent.cache for sent in client.sent} == {"off"}


def test_parameters_clone_and_pickle(client):
    search = drop_ins.GridSearchCV(chain(), GRID, job_options={"workers": 2}, cv=3)
    assert clone(search).job_options == {"workers": 2}
    assert clone(search.set_params(job_options=None, n_jobs=-1, pre_dispatch=1)).n_jobs == -1
    search.fit(X, Y)
    with SHARED.lend(None):
        again = pickle.loads(pickle.dumps(search))
        np.testing.assert_array_equal(again.predict(X), search.predict(X))
        assert copy.deepcopy(search).best_score_ == search.best_score_
    assert again.client is None


def test_a_client_given_is_used_and_not_pickled(client):
    with Recording() as own:
        search = drop_ins.GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9]}, client=own, cv=3).fit(X, Y)
        assert client.sent == []
        assert own.actions == [Action.SEARCH]
        assert pickle.loads(pickle.dumps(search)).client is None


class Narrow(drop_ins.GridSearchCV):
    """A search of a user's own."""

    def __init__(self, C=(1, 10)):
        super().__init__(SVC(), {"C": C}, cv=3)
        self.C = C


def test_a_class_of_the_users_own_may_stand_on_a_drop_in(client):
    search = Narrow().fit(X, Y)
    assert client.actions == [Action.SEARCH]
    assert search.best_params_["C"] in search.C


def test_within_a_task_scikit_learn_fits_where_it_is(client):
    inner = drop_ins.GridSearchCV(SVC(), {"C": [1, 10]}, cv=2)
    with SHARED.lend(None):  # as in a worker, which has the engine and no client
        np.testing.assert_array_equal(
            inner.fit(X, Y).cv_results_["mean_test_score"],
            model_selection.GridSearchCV(SVC(), {"C": [1, 10]}, cv=2).fit(X, Y).cv_results_["mean_test_score"],
        )
    assert client.sent == []


def test_verbose_prints_a_line_for_each_fit(client, capsys):
    drop_ins.GridSearchCV(SVC(), {"C": [1]}, cv=2, verbose=3, refit=False).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Fitting 2 folds for each of 1 candidates, totalling 2 fits"
    assert lines[1].startswith("[CV 1/2] END ")
    assert ", score=0." in lines[1]
    assert len(lines[1]) == 80


def test_the_shared_client_is_opened_once_and_anew_in_a_forked_child():
    shared = SharedClient(opened=list, inside=lambda: False)
    first = shared.get()
    assert shared.get() is first
    shared.forked()
    assert shared.get() is not first


SEARCHES = [
    drop_ins.GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=3, error_score="raise"),
    drop_ins.GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=3, error_score="raise"),
    drop_ins.RandomizedSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, n_iter=2, cv=3, error_score="raise"),
    drop_ins.HalvingGridSearchCV(
        Ridge(), {"alpha": [0.1, 1.0]}, cv=2, min_resources="smallest", error_score="raise", random_state=0
    ),
]


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: f"{type(search).__name__} {search.estimator}")
def test_scikit_learns_checks_of_meta_estimators(client, search):
    """All but those that scikit-learn's own class is known to fail."""
    known = PER_ESTIMATOR_XFAIL_CHECKS.get(type(search).__mro__[2], {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(search, expected_failed_checks=known, on_skip=None)
