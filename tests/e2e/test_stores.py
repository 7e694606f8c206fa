"""The main job on real stores: a gateway on PostgreSQL and a real S3 server, data and results past the gateway."""

import csv
import io
import json

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import flaregate as fg
from tests.conftest import gateway_on
from tests.servers.s3 import environment

pytestmark = pytest.mark.services
AXES = {"logistic__C": [0.01, 0.1, 1.0, 10.0]}


@pytest.fixture
def bucket(swift):
    return swift.bucket()


@pytest.fixture
def on_stores(tmp_path, swift, bucket, postgres):
    given = environment(tmp_path / "home", swift, bucket, DATABASE_URL=postgres.database())
    own = {name: value for name, value in given.items() if name.startswith("FLAREGATE_") and name != "FLAREGATE_HOME"}
    with gateway_on(tmp_path / "home", **own) as gateway:
        yield gateway


def frame():
    random = np.random.default_rng(7)
    X = pd.DataFrame(random.normal(size=(3000, 6)), columns=list("abcdef"))
    return X, (X["a"] + X["b"] > 0).astype(int)


def search(client, X, y, **options):
    pipe = fg.Pipeline("stores")
    pipe.node("logistic", LogisticRegression(), after=pipe.node("scale", StandardScaler()))
    return client.submit(pipe, action="search", X=X, y=y, axes=AXES, cv=5, timeout=150, **options)


def test_a_job_on_postgresql_and_s3_from_a_frame_to_its_artifacts(on_stores, swift, bucket, tmp_path):
    X, y = frame()
    with on_stores.client() as client:
        job = search(client, X, y)
        result = job.result()
        names = {"logisticregression__C": AXES["logistic__C"]}
        expected = GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), names, cv=5).fit(X, y)
        np.testing.assert_allclose(
            [outcome.mean for outcome in result.outcomes], expected.cv_results_["mean_test_score"], rtol=1e-12
        )
        model = result.best.pipeline()
        assert list(model.feature_names_in_) == list(X.columns)
        assert (model.predict(X) == expected.predict(X)).all()
        events = [event.id for event in job.events()]
        assert events == list(range(1, len(events) + 1))

        again = search(client, X, y)
        stats = again.result().stats
        assert (stats.fits, stats.cached > 0) == ({}, True), "the bucket has every result"

        asked = {"headers": {"Authorization": f"Bearer {on_stores.token}", "Accept": "text/csv"}, "trust_env": False}
        table = list(csv.DictReader(io.StringIO(httpx.get(f"{on_stores.url}/v1/jobs/{job.id}/results", **asked).text)))
        assert [float(row["mean"]) for row in table] == [outcome.mean for outcome in result.outcomes]
        ready = httpx.get(f"{on_stores.url}/readyz", trust_env=False).json()
        assert (ready["status"], ready["store"]["kind"]) == ("ok", "s3")
        artifact = next(one for one in job.artifacts() if one.name == "best")
        path = job.download("best", tmp_path / "best.zip")
        assert path.stat().st_size == artifact.size
        answer = httpx.get(
            f"{on_stores.url}/v1/jobs/{job.id}/artifacts/best", headers=asked["headers"], trust_env=False
        )
        assert answer.headers["location"].startswith(swift.endpoint)
    assert list((tmp_path / "home").glob("store/**/*")) == [], "nothing lies beside the bucket"
    assert not (tmp_path / "home" / "gateway.db").exists()
    text = json.dumps([str(one) for one in (tmp_path / "home").rglob("*")])
    assert swift.secret_key not in text
