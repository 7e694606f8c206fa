"""What is said not to draw gives the same under any global seed; what draws without a seed is found wherever it is."""

import inspect
import warnings
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.decomposition import NMF, PCA, FactorAnalysis, FastICA, KernelPCA
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    BaggingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.experimental import enable_iterative_imputer
from sklearn.feature_selection import SelectKBest, f_classif, mutual_info_classif
from sklearn.frozen import FrozenEstimator
from sklearn.impute import IterativeImputer
from sklearn.linear_model import Lasso, LogisticRegression, Ridge, SGDClassifier
from sklearn.manifold import LocallyLinearEmbedding
from sklearn.model_selection import GridSearchCV, KFold, RepeatedKFold, ShuffleSplit
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain
from sklearn.neighbors import KNeighborsClassifier, NeighborhoodComponentsAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, QuantileTransformer, StandardScaler, TargetEncoder
from sklearn.svm import SVC, LinearSVC, LinearSVR
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import all_estimators
from sklearn.utils._test_common.instance_generator import _construct_instances
from sklearn.utils.estimator_checks import _enforce_estimator_tags_X, _enforce_estimator_tags_y

from flaregate import Pipeline
from flaregate.code_digest import code_digest
from flaregate.imports import resolve
from flaregate.submission import JobOptions, prepare
from worker_image.draws import _RULES, draws
from worker_image.engine.drawing import drawing
from worker_image.engine.rows import Source
from worker_image.engine.session import Context, Data, Session

assert enable_iterative_imputer  # it is imported for what it does
METHODS = (
    "transform",
    "predict",
    "predict_proba",
    "decision_function",
    "score_samples",
    "fit_predict",
    "fit_transform",
)


def unseeded(estimator):
    """A clone without a seed in it."""
    try:
        made = clone(estimator)
        names = [name for name in made.get_params() if name.rpartition("__")[2] == "random_state"]
        return made.set_params(**dict.fromkeys(names))
    except (TypeError, ValueError, AttributeError):
        return estimator


def data_for(estimator):
    rng = np.random.RandomState(3)
    X = np.vstack([rng.normal(size=(45, 6)), rng.randint(0, 3, size=(45, 6))]) + 0.0
    y = np.tile([0, 1, 2], 30)
    return _enforce_estimator_tags_X(estimator, X), _enforce_estimator_tags_y(estimator, y)


def outcome(estimator, X, y, seed):
    """All that fitting gives: fitted arrays and what the methods say of the rows."""
    np.random.seed(seed)
    made = clone(estimator).fit(X, y)
    found = {name: value for name, value in vars(made).items() if isinstance(value, np.ndarray | float | int)}
    for method in METHODS:
        if callable(getattr(made, method, None)):
            found[method] = getattr(clone(made), method)(X, y) if "fit_" in method else getattr(made, method)(X)
    return found


def agrees(estimator, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, other = (outcome(estimator, X, y, seed) for seed in (0, 1))
    assert one.keys() == other.keys()
    moved = [name for name in one if "time" not in name and code_digest(one[name]) != code_digest(other[name])]
    assert moved == []
    return bool(one)


def instances():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, kind in all_estimators():
            if name == "FrozenEstimator":  # it needs another one, and is not fitted
                continue
            for number, estimator in enumerate(_construct_instances(kind)):
                yield pytest.param(unseeded(estimator), id=f"{name}-{number}")


UNFIT = {
    *("ClassifierChain", "CountVectorizer", "DictVectorizer", "FeatureHasher", "HashingVectorizer", "LabelBinarizer"),
    *("LabelEncoder", "MultiLabelBinarizer", "SparseCoder", "TfidfVectorizer"),
}
"""Classes without a seed or a rule of their own that take no such rows or targets; ClassifierChain's rule is below."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", list(instances()))
def test_estimators_of_scikit_learn_that_are_said_not_to_draw_do_not(estimator):
    if draws(estimator):
        return
    X, y = data_for(estimator)
    try:
        assert agrees(estimator, X, y)
    except (TypeError, ValueError, AttributeError):
        assert type(estimator).__name__ in UNFIT


RARE = [
    KMeans(3, init=np.eye(3, 6), n_init=1),
    KernelPCA(3, kernel="rbf", eigen_solver="dense"),
    FactorAnalysis(3, svd_method="lapack"),
    FastICA(6, w_init=np.eye(6), max_iter=500),
    PCA(3, svd_solver="full"),
    PCA(3, svd_solver="covariance_eigh"),
    Lasso(0.01),
    Ridge(solver="lsqr"),
    LogisticRegression(solver="newton-cholesky"),
    LinearSVC(dual=False),
    LinearSVR(dual=False, loss="squared_epsilon_insensitive"),
    SGDClassifier(shuffle=False),
    LocallyLinearEmbedding(eigen_solver="dense"),
    NeighborhoodComponentsAnalysis(2, init="lda"),
    QuantileTransformer(n_quantiles=10, subsample=None),
    KBinsDiscretizer(3, subsample=None, strategy="kmeans"),
    TargetEncoder(shuffle=False),
    IterativeImputer(),
    SVC(),
    DummyClassifier(strategy="most_frequent"),
    SelectKBest(f_classif, k=2),
    HistGradientBoostingClassifier(max_iter=5, early_stopping=False),
]


@pytest.mark.parametrize("estimator", RARE, ids=lambda estimator: type(estimator).__name__)
def test_settings_that_the_table_knows(estimator):
    rng = np.random.RandomState(0)
    X, y = rng.normal(size=(150, 6)), np.tile([0, 1, 2], 50)
    assert not draws(estimator, [X.shape])
    assert agrees(estimator, X, y)


def test_chains_in_a_given_order():
    rng = np.random.RandomState(0)
    X, y = rng.normal(size=(60, 4)), rng.randint(0, 2, size=(60, 3))
    assert not draws(ClassifierChain(LogisticRegression(), order=[2, 0, 1]))
    assert agrees(ClassifierChain(LogisticRegression(), order=[2, 0, 1]), X, y)


@pytest.mark.parametrize("components", [None, 0.9, "mle", 1, 3, 40])
@pytest.mark.parametrize("shape", [(100, 50), (499, 30), (600, 60), (600, 61), (600, 70), (501, 10)])
def test_pca_that_is_said_to_be_exact_on_a_shape_is(components, shape):
    if isinstance(components, int) and components > min(shape):
        return
    X = np.random.RandomState(0).normal(size=shape)
    fitted = PCA(components).fit(X)
    assert draws(PCA(components), [shape]) == (fitted._fit_svd_solver == "randomized")
    assert draws(PCA(components))
    assert draws(make_pipeline(PCA(components)), [shape])
    assert not draws(PCA(components, random_state=0))


SEEDED = RandomForestClassifier(3, random_state=0)


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (StandardScaler(), False),
        (KNeighborsClassifier(), False),
        (DecisionTreeClassifier(), True),
        (DecisionTreeClassifier(random_state=np.int64(3)), False),
        (SVC(random_state=np.random.RandomState(0)), True),
        (SVC(random_state=np.random.default_rng(0)), True),
        (SVC(random_state=np.random.mtrand._rand), True),
        (SVC(probability=True), True),
        (LogisticRegression(solver="saga"), True),
        (LogisticRegression(solver="saga", random_state=1), False),
        (NMF(), True),
        (make_pipeline(StandardScaler(), SVC()), False),
        (make_pipeline(StandardScaler(), DecisionTreeClassifier()), True),
        (make_column_transformer((PCA(2), [0, 1]), remainder=StandardScaler()), True),
        (make_column_transformer((PCA(2, svd_solver="full"), [0, 1]), remainder=DecisionTreeClassifier()), True),
        (BaggingClassifier(SVC()), True),
        (StackingClassifier([("a", SVC()), ("b", SEEDED)]), False),
        (StackingClassifier([("a", SVC()), ("b", clone(SEEDED).set_params(random_state=None))]), True),
        (StackingClassifier([("a", SVC())], cv=KFold(3, shuffle=True)), True),
        (StackingClassifier([("a", SVC())], cv=KFold(3, shuffle=True, random_state=0)), False),
        (StackingClassifier([("a", SVC())], cv=KFold(3)), False),
        (GridSearchCV(SVC(), {"C": [1]}, cv=RepeatedKFold(n_splits=2)), True),
        (GridSearchCV(SVC(), {"C": [1]}, cv=ShuffleSplit(2, random_state=3)), False),
        (GridSearchCV(make_pipeline(SVC()), {"svc": [SVC(), DecisionTreeClassifier()]}), True),
        (OneVsRestClassifier(SGDClassifier()), True),
        (ClassifierChain(SVC(), order="random"), True),
        (SelectKBest(mutual_info_classif), True),
        (FrozenEstimator(DecisionTreeClassifier()), False),
    ],
)
def test_what_draws_is_found_wherever_it_is(estimator, expected):
    assert draws(estimator) is expected


def test_every_shape_that_it_is_fitted_on_counts():
    pca = PCA(3)
    assert not draws(pca, [(450, 60)])
    assert not draws(pca, [(600, 60)])
    assert draws(pca, [(450, 60), (562, 60)])
    forest = HistGradientBoostingClassifier()
    assert [draws(forest, shapes) for shapes in ([(10_000, 5)], [(10_001, 5)], [])] == [False, True, True]


def drawing_nodes(build, X, *, axes=None, folds=(), **options):
    pipe = Pipeline()
    build(pipe)
    y = np.zeros(X.shape[0])
    submission = prepare(pipe, JobOptions(action="search" if axes else "fit", X=X, y=y, axes=axes, **options))
    context = Context(submission.definition, {sha: item.read() for sha, item in submission.blobs.items()})
    return drawing(Session(context, Data(())), [Source(X, y, folds=folds)])


def two_reductions(pipe):
    pipe.node("second", PCA(3), after=pipe.node("first", PCA(3)))


TALL = np.zeros((600, 60))


def test_a_root_is_judged_by_the_rows_that_it_gets_and_other_nodes_without():
    assert drawing_nodes(two_reductions, TALL) == {"second"}
    assert drawing_nodes(two_reductions, TALL, folds=((np.arange(550), np.arange(550, 600)),)) == {"first", "second"}
    assert drawing_nodes(two_reductions, sp.csr_array(TALL)) == {"first", "second"}


def test_a_node_draws_where_a_value_of_an_axis_lets_it():
    def build(pipe):
        pipe.node("model", LogisticRegression())

    assert drawing_nodes(build, TALL, axes={"model__C": [1, 2]}) == frozenset()
    assert drawing_nodes(build, TALL, axes={"model__solver": ["lbfgs", "saga"]}) == {"model"}


def test_a_node_draws_where_values_of_several_axes_let_it_together():
    def seeded(pipe):
        pipe.node("model", LogisticRegression(random_state=0))

    axes = {"model__solver": ["lbfgs", "saga"], "model__random_state": [0, None]}
    assert drawing_nodes(seeded, TALL, axes=axes) == {"model"}
    assert drawing_nodes(seeded, TALL, axes={**axes, "model__solver": ["lbfgs"]}) == frozenset()
    many = {"model__C": [0.1 * one for one in range(1, 60)], "model__tol": [0.1 * one for one in range(1, 60)]}
    assert drawing_nodes(seeded, TALL, axes={**many, "model__solver": ["lbfgs", "saga"]}) == frozenset()
    assert drawing_nodes(seeded, TALL, axes={**many, **axes}) == {"model"}


def test_a_node_draws_where_the_folds_that_it_is_stacked_by_do():
    def stacked(pipe, cv):
        pipe.node("last", LogisticRegression(), after=pipe.node("first", SVC(), stack_cv=cv))

    for cv, expected in ((None, set()), (3, set()), (KFold(3), set()), (KFold(3, shuffle=True), {"first"})):
        assert drawing_nodes(partial(stacked, cv=cv), TALL) == expected
    assert drawing_nodes(partial(stacked, cv=KFold(3, shuffle=True, random_state=0)), TALL) == frozenset()


def test_a_class_of_the_users_own_that_derives_from_one_in_the_table_counts_as_drawing():
    class Mine(SVC):
        pass

    class Plain(BaseEstimator):
        def fit(self, X, y=None):
            return self

    class Old:
        random_state = None

        def __init__(self):
            self.random_state = None

        def fit(self, X, y=None):
            return self

    assert [draws(made) for made in (Mine(), Mine(random_state=0), Plain(), Old())] == [True, False, False, True]


def test_every_class_in_the_table_is_there_and_has_a_seed():
    for path in _RULES:
        kind = resolve(path)
        assert "random_state" in inspect.signature(kind).parameters
