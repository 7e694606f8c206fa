"""What is computed when the cache knows a part: a run twice, one value more, lost files, draws, maps, sweeps."""

import shutil
import time
import warnings

import numpy as np
import pytest
from sklearn import config_context
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from flaregate.pipelines import Pipeline
from flaregate_wire.attempts import CacheObject
from tests.worker.engine_runs import run_work, submitted
from worker_image.cache import Entry
from worker_image.engine import recall
from worker_image.engine.runner import SequentialRunner, StatesLost

X, Y = load_iris(return_X_y=True)


class Shelves:
    """A cache in memory and in a folder; `broken` files are not given out."""

    def __init__(self, folder):
        self.folder = folder
        self.folder.mkdir()
        self.entries = {}
        self.lookups = 0
        self.broken = False

    def lookup(self, shelves):
        self.lookups += 1
        return {shelf: dict(self.entries[shelf]) for shelf in shelves if shelf in self.entries}

    def keep(self, shelf, key, report, file=None):
        blob = None
        if file is not None:
            name = str(len(list(self.folder.iterdir())))
            shutil.copy(file, self.folder / name)
            blob = CacheObject(key=name, size=1, sha256="sha256:" + "0" * 64)
        self.entries.setdefault(shelf, {}).setdefault(key, Entry(dict(report), blob, "job"))

    def fetch(self, entry, path):
        if self.broken or entry.blob is None:
            return False
        shutil.copy(self.folder / entry.blob.key, path)
        return True

    def close(self):
        pass


@pytest.fixture
def shelves(tmp_path):
    return Shelves(tmp_path / "shelves")


@pytest.fixture
def job(tmp_path, shelves):
    """Run a job against the same cache; every one has a folder of its own."""
    count = 0

    def run(pipe, job="job", **options):
        nonlocal count
        count += 1
        work = submitted(pipe, tmp_path / str(count), **options)
        return run_work(SequentialRunner(), work, cache=lambda: shelves, job=job)

    return run


def chain(*nodes):
    pipe, last = Pipeline(), None
    for name, obj in nodes:
        last = pipe.node(name, obj, after=last)
    return pipe


SEARCH = (("scale", StandardScaler()), ("pca", PCA(random_state=0)), ("logistic", LogisticRegression()))
AXES = {"pca__n_components": [1, 2], "logistic__C": [0.1, 1.0]}


def test_a_search_again_computes_nothing_and_gives_the_same(job):
    first = job(chain(*SEARCH), X=X, y=Y, axes=AXES, cv=3)
    second = job(chain(*SEARCH), X=X, y=Y, axes=AXES, cv=3)
    assert second.result.stats.tasks == 0
    assert second.result.stats.fits == second.result.stats.refits == {}
    assert second.scores() == first.scores()
    assert all(outcome.cached for outcome in second.outcomes)
    assert not any(outcome.cached for outcome in first.outcomes)
    assert [outcome.times for outcome in second.outcomes] == [outcome.times for outcome in first.outcomes]
    np.testing.assert_array_equal(second.pipeline().predict(X), first.pipeline().predict(X))
    progress = [event for event in second.events if event.type == "progress"][-1]
    assert progress.cached > 0
    assert progress.done == progress.total


def test_one_value_more_computes_that_value_alone(job):
    job(chain(*SEARCH), X=X, y=Y, axes=AXES, cv=3)
    more = {"pca__n_components": [1, 2], "logistic__C": [0.1, 1.0, 10.0]}
    ran = job(chain(*SEARCH), X=X, y=Y, axes=more, cv=3)
    assert ran.result.stats.fits == {"scale": 3, "pca": 6, "logistic": 6}
    assert [outcome.cached for outcome in ran.outcomes] == [True, True, False] * 2


def test_slow_steps_are_loaded_and_computed_again_where_their_file_is_gone(job, shelves, monkeypatch):
    monkeypatch.setattr(recall, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(recall, "BYTES_A_SECOND", 1e12)
    job(chain(*SEARCH), X=X, y=Y, axes=AXES, cv=3)
    ran = job(chain(*SEARCH), X=X, y=Y, axes={**AXES, "logistic__C": [5.0]}, cv=3, refit=False)
    assert ran.result.stats.fits == {"logistic": 6}
    shelves.broken = True
    again = job(chain(*SEARCH), X=X, y=Y, axes={**AXES, "logistic__C": [6.0]}, cv=3, refit=False)
    assert again.result.stats.fits == {"scale": 3, "pca": 6, "logistic": 6}
    expected = job(chain(*SEARCH), X=X, y=Y, axes={**AXES, "logistic__C": [6.0]}, cv=3, cache="off", refit=False)
    assert again.scores() == expected.scores()


class Slow(StandardScaler):
    """Takes a while, and says so."""

    def fit(self, X, y=None, sample_weight=None):
        time.sleep(0.02)
        warnings.warn("this is slow", UserWarning, stacklevel=1)
        return super().fit(X, y)


def test_what_reads_a_stored_result_has_the_times_and_warnings_of_what_made_it(job, tmp_path, monkeypatch):
    monkeypatch.setattr(recall, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(recall, "BYTES_A_SECOND", 1e12)
    nodes = [("slow", Slow()), ("pca", PCA(random_state=0)), ("logistic", LogisticRegression())]
    for depth, c in enumerate((1.0, 2.0, 3.0)):
        axes = {"pca__n_components": [1, 2 + depth // 2], "logistic__C": [c]}
        ran = job(chain(*nodes), X=X, y=Y, axes=axes, cv=3, refit=False)
        for outcome in ran.outcomes:
            assert [warning.message for warning in outcome.warnings] == ["this is slow"]
            assert min(outcome.times["fit_folds"]) >= 0.02
    assert ran.result.stats.fits == {"pca": 3, "logistic": 6}
    assert not list(tmp_path.rglob("kept-*"))


class Unwilling(SequentialRunner):
    """Cannot write what a step passes on: its machine is gone, or it cannot be pickled."""

    def export(self, key, path):
        raise StatesLost("gone")


def test_a_result_that_cannot_be_written_is_only_not_kept(tmp_path, shelves, monkeypatch):
    monkeypatch.setattr(recall, "WORTH_SECONDS", 0.0)
    work = submitted(chain(*SEARCH), tmp_path / "job", X=X, y=Y, axes=AXES, cv=3)
    ran = run_work(Unwilling(), work, cache=lambda: shelves, job="job")
    assert ran.finished.succeeded
    assert not any(entry.blob for kept in shelves.entries.values() for key, entry in kept.items() if "/all/" not in key)


def test_what_draws_is_shared_within_its_job_alone(job):
    tree = chain(("scale", StandardScaler()), ("tree", DecisionTreeClassifier(max_features=1)))
    axes = {"tree__max_depth": [2, 3]}
    first = job(tree, job="job-1", X=X, y=Y, axes=axes, cv=3)
    attempt = job(tree, job="job-1", X=X, y=Y, axes=axes, cv=3)
    assert attempt.result.stats.fits == {}
    assert attempt.scores() == first.scores()
    assert job(tree, job="job-2", X=X, y=Y, axes=axes, cv=3).result.stats.fits["tree"] == 6
    first = job(tree, job="job-3", X=X, y=Y, axes=axes, cv=3, unseeded=True)
    assert job(tree, job="job-4", X=X, y=Y, axes=axes, cv=3, unseeded=True).scores() == first.scores()


@pytest.mark.parametrize(
    "change",
    [
        {"X": X * 2},
        {"y": Y[::-1].copy()},
        {"cv": 4},
        {"scoring": "balanced_accuracy"},
        {"sample_weight": np.linspace(1, 2, len(Y))},
        {"return_train_score": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_data_folds_scorers_and_weights_are_other_results(job, change):
    options = {"X": X, "y": Y, "axes": AXES, "cv": 3, "refit": False}
    job(chain(*SEARCH), **options)
    assert job(chain(*SEARCH), **{**options, **change}).result.stats.fits["logistic"] > 0


GROUPS = np.arange(len(Y)) % 5
SHUFFLE = ShuffleSplit(2, random_state=0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"cv": KFold(3)}, {"cv": StratifiedKFold(3)}),
        ({"cv": GroupKFold(3), "groups": GROUPS}, {"cv": GroupKFold(3), "groups": np.sort(GROUPS)}),
        ({"cv": 3, "y": Y}, {"cv": 3, "y": np.roll(Y, 1)}),
        ({"cv": KFold(3)}, {"cv": KFold(3, shuffle=True, random_state=0)}),
    ],
    ids=["splitter", "groups", "y", "shuffle"],
)
def test_a_stored_part_is_never_read_by_other_folds(job, one, other, monkeypatch):
    monkeypatch.setattr(recall, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(recall, "BYTES_A_SECOND", 1e12)
    rest = {"X": X, "y": Y, "axes": AXES, "refit": False}
    job(chain(*SEARCH), **rest | one)
    ran = job(chain(*SEARCH), **rest | other)
    assert ran.result.stats.fits == {"scale": 3, "pca": 6, "logistic": 12}
    assert ran.scores() == job(chain(*SEARCH), **rest | other, cache="off").scores()


def test_a_shuffle_without_a_seed_is_another_one_in_each_job(tmp_path, shelves):
    def cut(name):
        work = submitted(chain(*SEARCH), tmp_path / name, X=X, y=Y, cv=SHUFFLE, action="cross_validate")
        cv = work.definition.cv.model_copy(update={"params": {"n_splits": 2}})
        work = work.model_copy(update={"definition": work.definition.model_copy(update={"cv": cv})})
        return run_work(SequentialRunner(), work, cache=lambda: shelves, job=name)

    cut("job-1")
    assert cut("job-2").result.stats.fits == {"scale": 2, "pca": 2, "logistic": 2}


def test_weights_that_are_routed_to_a_step_are_part_of_what_it_gives(job, monkeypatch):
    monkeypatch.setattr(recall, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(recall, "BYTES_A_SECOND", 1e12)
    with config_context(enable_metadata_routing=True):
        scale = StandardScaler().set_fit_request(sample_weight=True)
        logistic = LogisticRegression().set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        pipe = chain(("scale", scale), ("logistic", logistic))
        options = {"X": X, "y": Y, "cv": 3, "action": "cross_validate"}
        job(pipe, **options, sample_weight=np.ones(len(Y)))
        assert job(pipe, **options, sample_weight=np.arange(1.0, len(Y) + 1)).result.stats.fits["scale"] == 3


def test_off_asks_for_nothing_and_errors_are_not_kept(job, shelves):
    job(chain(*SEARCH), X=X, y=Y, axes=AXES, cv=3, cache="off")
    assert not shelves.lookups
    assert not shelves.entries
    bad = {"logistic__C": [-1.0, 1.0]}
    assert job(chain(*SEARCH), X=X, y=Y, axes=bad, cv=3).result.failed == 1
    again = job(chain(*SEARCH), X=X, y=Y, axes=bad, cv=3)
    assert again.result.stats.fits["logistic"] == 3
    assert [outcome.cached for outcome in again.outcomes] == [False, True]


def test_a_fitted_pipeline_is_taken_from_the_cache(job, shelves):
    first = job(chain(*SEARCH), X=X, y=Y)
    second = job(chain(*SEARCH), X=X, y=Y)
    assert second.result.stats.tasks == 0
    assert second.outcomes[0].cached
    expected = first.pipeline("pipeline-0").predict(X)
    np.testing.assert_array_equal(second.pipeline("pipeline-0").predict(X), expected)
    shelves.broken = True
    third = job(chain(*SEARCH), X=X, y=Y)
    assert third.result.stats.fits == {"scale": 1, "pca": 1, "logistic": 1}
    np.testing.assert_array_equal(third.pipeline("pipeline-0").predict(X), expected)


def doubled(rows):
    return rows * 2


def test_blocks_of_a_map_are_taken_up_as_they_were_cut(job):
    pipe = chain(("doubled", doubled))
    first = job(pipe, action="map", X=X)
    second = job(pipe, action="map", X=X)
    assert second.result.stats.tasks == 0
    assert len(second.outcomes) == len(first.outcomes)
    assert all(outcome.cached for outcome in second.outcomes)
    assert second.files


def cell(a, b):
    return {"total": a + b}


def test_cells_of_a_sweep_are_kept_unless_their_node_says_no(job):
    axes = {"cell__a": [1, 2], "cell__b": [3, 4]}
    job(chain(("cell", cell)), action="sweep", axes=axes)
    again = job(chain(("cell", cell)), action="sweep", axes={**axes, "cell__b": [3, 4, 5]})
    assert again.result.stats.tasks == 2
    assert [outcome.metrics["total"] for outcome in again.outcomes] == [4, 5, 6, 5, 6, 7]
    pipe = Pipeline()
    pipe.node("cell", cell, cache=False)
    job(pipe, job="job-1", action="sweep", axes=axes)
    assert job(pipe, job="job-2", action="sweep", axes=axes).result.stats.tasks == 4
