"""Whole jobs with the cache of a real gateway: what is known is not computed, what is broken is, and numbers never differ."""

import asyncio

import pytest
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.tree import DecisionTreeClassifier

import flaregate as fg
from tests.served import served
from tests.worker.engine_runs import run_work, submitted
from worker_image.cache import CacheAccess, GatewayCache
from worker_image.engine.runner import SequentialRunner

X, y = load_iris(return_X_y=True)


@pytest.fixture
async def repeat(tmp_path):
    """Run the search as a new job, and another time, and another …; gives the run and its cache's requests."""
    async with served(tmp_path / "gateway") as gateway:
        count = 0

        async def repeat(depths, **options):
            nonlocal count
            count += 1
            job = await gateway.submit()
            head = await gateway.head(job)
            access = CacheAccess(url=gateway.url, attempt=head.attempt, token=head.token, patience=1)
            cache = GatewayCache(access, tmp_path / f"cache-{count}")
            pipe = fg.Pipeline("p")
            pca = pipe.node("pca", PCA(random_state=0))
            pipe.node("tree", DecisionTreeClassifier(random_state=0), after=pca)
            axes = {"pca__n_components": [1, 2], "tree__max_depth": depths}
            work = submitted(pipe, tmp_path / f"work-{count}", X=X, y=y, axes=axes, cv=3, **options)
            run = await asyncio.to_thread(lambda: run_work(SequentialRunner(), work, cache=lambda: cache, job=job))
            assert run.finished.succeeded, run.finished.message
            return run, cache.requests

        repeat.objects = gateway.store._objects / "tenants" / "default" / "cache"
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
