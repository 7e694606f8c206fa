"""Whole jobs with the cache of a real gateway: what is known is not computed, what is broken is, and numbers never differ."""

import asyncio

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold
from sklearn.tree import DecisionTreeClassifier

import flaregate as fg
from flaregate.versions import here
from tests.gateway.conftest import TOKEN
from tests.served import served
from tests.worker.engine_runs import run_work, submitted
from worker_image.cache import CacheAccess, GatewayCache
from worker_image.engine import recall
from worker_image.engine.runner import SequentialRunner

X, y = load_iris(return_X_y=True)


def search(depths, pca=None, tree=None, mapped=None):
    if mapped is not None:
        return mapped, {}
    pipe = fg.Pipeline("p")
    first = pipe.node("pca", pca or PCA(random_state=0))
    pipe.node("tree", tree or DecisionTreeClassifier(random_state=0), after=first)
    return pipe, {"X": X, "y": y, "cv": 3, "axes": {"pca__n_components": [1, 2], "tree__max_depth": depths}}


class Halves:
    """A splitter of one's own."""

    def get_n_splits(self, X=None, y=None, groups=None):
        return 2

    def split(self, X, y=None, groups=None):
        odd = np.arange(len(X)) % 2 == 1
        yield np.flatnonzero(odd), np.flatnonzero(~odd)
        yield np.flatnonzero(~odd), np.flatnonzero(odd)


def doubled(rows):
    return rows * 2


def mapping(rows=X, **options):
    """Of a function, in place of the search."""
    pipe = fg.Pipeline("p")
    pipe.node("doubled", doubled)
    return {"nodes": {"mapped": pipe}, "action": "map", "X": rows, "y": None, "cv": None, "axes": None, **options}


@pytest.fixture
async def repeat(tmp_path):
    """Run the search as a new job, and another time, and another …; gives the run and its cache's requests.

    `planned` gives what the gateway says of it before: tasks, and how many of them are cached; `why` where it is not
    known.
    """
    async with served(tmp_path / "gateway") as gateway:
        gateway.launcher.has = here()
        count = 0

        async def view(depths=(), *, nodes=None, **options):
            pipe, usual = search(depths, **nodes or {})

            def ask():
                with fg.Client(gateway.url, TOKEN) as client:
                    return client.plan(pipe, **{**usual, **options})

            return await asyncio.to_thread(ask)

        async def planned(depths=(), **options):
            seen = await view(depths, **options)
            return seen.tasks, seen.cached

        async def why(depths=(), **options):
            seen = await view(depths, **options)
            assert seen.cached is None
            return seen.cached_why

        async def repeat(depths=(), *, nodes=None, **options):
            nonlocal count
            count += 1
            job = await gateway.submit()
            head = await gateway.head(job)
            access = CacheAccess(url=gateway.url, attempt=head.attempt, token=head.token, patience=1)
            cache = GatewayCache(access, tmp_path / f"cache-{count}")
            pipe, usual = search(depths, **nodes or {})
            work = submitted(pipe, tmp_path / f"work-{count}", **{**usual, **options})
            run = await asyncio.to_thread(lambda: run_work(SequentialRunner(), work, cache=lambda: cache, job=job))
            assert run.finished.succeeded, run.finished.message
            return run, cache.requests

        repeat.objects = gateway.store._objects / "tenants" / "default" / "cache"
        repeat.planned, repeat.why = planned, why
        yield repeat


async def test_a_repeat_computes_nothing_and_one_added_value_itself_alone(repeat):
    first, requests = await repeat([1, 2])
    assert requests <= 10
    assert first.result.stats.fits["tree"] == 2 * 2 * 3
    again, _ = await repeat([1, 2])
    assert again.result.stats.fits == again.result.stats.refits == {}
    assert all(outcome.cached for outcome in again.outcomes)
    assert again.scores() == first.scores()
    assert (again.pipeline().predict(X) == first.pipeline().predict(X)).all()
    more, _ = await repeat([1, 2, 3])
    assert more.result.stats.fits["tree"] == 2 * 3
    assert [outcome.cached for outcome in more.outcomes] == [True, True, False] * 2


async def test_a_plan_says_what_is_known(repeat):
    assert await repeat.planned([1, 2]) == (18, 0)
    first, _ = await repeat([1, 2])
    assert first.result.stats.cached == 0
    assert await repeat.planned([1, 2]) == (18, 18)
    assert await repeat.planned([1, 2], cv=4) == (24, 0)
    assert await repeat.planned([1, 2], cv=KFold(3)) == (18, 0)
    assert await repeat.planned([1, 2], scoring="balanced_accuracy") == (18, 0)
    assert await repeat.planned([1, 2], cache="off") == (18, 0)
    assert await repeat.planned([1, 2], y=y[::-1].copy()) == (18, 0)
    assert await repeat.planned([1, 2], cv=KFold(3, shuffle=True)) == (18, 0)  # made here, and other ones each time


async def test_of_one_value_more_a_plan_counts_what_the_run_computes(repeat):
    await repeat([1, 2])
    assert await repeat.planned([1, 2, 3]) == (24, 12)  # three trees and the projection that they read, twice
    more, _ = await repeat([1, 2, 3])
    assert sum(more.result.stats.fits.values()) == 24 - 12
    assert await repeat.planned([1, 2, 3]) == (24, 24)
    assert await repeat.planned([3]) == (12, 12)


async def test_a_plan_knows_what_workers_load_from_scikit_learn(repeat):
    loaded = {"X": fg.dataset("sklearn.datasets:load_iris"), "y": fg.dataset("sklearn.datasets:load_iris")}
    first, _ = await repeat([1, 2], **loaded)
    assert first.result.stats.cached == 0
    assert await repeat.planned([1, 2], **loaded) == (18, 18)


async def test_a_plan_knows_stored_parts_and_what_is_gone(repeat, monkeypatch):
    monkeypatch.setattr(recall, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(recall, "BYTES_A_SECOND", 1e12)
    await repeat([1, 2])
    assert await repeat.planned([1, 2, 3]) == (24, 18)
    more, _ = await repeat([1, 2, 3])
    assert more.result.stats.fits == {"tree": 6}
    for path in [path for path in repeat.objects.rglob("*") if path.is_file()]:
        path.write_bytes(b"something else")
    assert await repeat.planned([1, 2, 3]) == (24, 0)


async def test_a_plan_of_what_draws_is_shared_or_not_as_its_run_is(repeat):
    drawn = {"tree": DecisionTreeClassifier(max_features=1)}
    await repeat([1, 2], nodes=drawn, refit=False)
    assert await repeat.planned([1, 2], nodes=drawn) == (18, 0)
    await repeat([1, 2], nodes=drawn, unseeded=True, refit=False)
    assert await repeat.planned([1, 2], nodes=drawn, unseeded=True) == (18, 18)


async def test_a_plan_does_not_say_what_it_cannot_know(repeat):
    loaded = {"X": fg.dataset("sklearn.datasets:load_files"), "y": fg.dataset("sklearn.datasets:load_files")}
    assert await repeat.why([1, 2], **loaded) == "only the job can tell what X holds"
    assert await repeat.why([1, 2], strategy="halving") == "halving chooses its candidates as it goes"
    iris = {"X": fg.dataset("sklearn.datasets:load_iris"), "y": fg.dataset("sklearn.datasets:load_iris")}
    assert await repeat.why([1, 2], cv=Halves(), **iris) == "its splitter is called by the job"
    assert await repeat.why([1, 2], cv=KFold(3, shuffle=True), **iris) == "its splitter draws without a seed"


async def test_the_folds_of_a_splitter_of_ones_own_are_made_here_and_known(repeat):
    assert await repeat.planned([1, 2], cv=Halves()) == (12, 0)
    await repeat([1, 2], cv=Halves())
    assert await repeat.planned([1, 2], cv=Halves()) == (12, 12)
    assert await repeat.planned([1, 2, 3], cv=Halves()) == (16, 8)


async def test_a_plan_counts_the_blocks_of_a_map_that_its_run_does_not_compute(repeat):
    assert await repeat.planned(**mapping(blocks=4)) == (4, 0)
    assert await repeat.planned(**mapping()) == (None, 0)
    await repeat(**mapping(blocks=4))
    assert await repeat.planned(**mapping(blocks=4)) == (4, 4)
    assert await repeat.planned(**mapping(blocks=2)) == (2, 0)
    assert await repeat.planned(**mapping()) == (None, 4)  # cut as they were before
    assert await repeat.planned(**mapping(X + 1, blocks=4)) == (4, 0)
    again, _ = await repeat(**mapping())
    assert (again.result.stats.tasks, len(again.outcomes)) == (0, 4)
    await repeat(**mapping(blocks=3))
    known = "blocks adapt their size, and only some rows are known"
    assert await repeat.why(**mapping()) == known  # from the first row on there are two ways
    loaded = fg.dataset("sklearn.datasets:load_iris")
    assert await repeat.planned(**mapping(loaded)) == (None, 0)
    await repeat(**mapping(loaded, blocks=4))
    assert await repeat.why(**mapping(loaded, blocks=4)) == "only the job can tell how many rows X has"


async def test_other_scorers_are_other_results(repeat):
    await repeat([1])
    other, _ = await repeat([1], scoring="balanced_accuracy")
    assert not any(outcome.cached for outcome in other.outcomes)


@pytest.mark.parametrize("harm", ["changed", "cut", "gone"])
async def test_broken_objects_are_computed_again(repeat, harm):
    first, _ = await repeat([1, 2])
    for path in [path for path in repeat.objects.rglob("*") if path.is_file()]:
        data = path.read_bytes()
        if harm == "gone":
            path.unlink()
        else:
            path.write_bytes(data[:-9] if harm == "cut" else data[:-9] + b"123456789")
    again, _ = await repeat([1, 2])
    assert not any(outcome.cached for outcome in again.outcomes)
    assert again.scores() == first.scores()
