"""Data where it lies, as users would: a definition for curl on a bucket, and the SDK on a web server."""

import contextlib
import io
import json
import subprocess

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

import flaregate as fg
from tests.conftest import gateway_on
from tests.servers.https import Page, Web

TABLE = load_iris(as_frame=True).frame
NAMES = list(TABLE.columns[:4])


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    web = Web(tmp_path_factory.mktemp("web"), "localhost")
    yield web
    web.close()


@pytest.fixture(scope="module")
def bucket(moto):
    return moto.bucket()


@pytest.fixture(scope="module")
def put(moto, bucket):
    with contextlib.closing(moto.client()) as client:
        yield lambda key, data: client.put_object(Bucket=bucket, Key=key, Body=data)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, moto, bucket, web):
    settings = {
        "FLAREGATE_REFERENCES": json.dumps({"*": [f"s3://{bucket}/data/"]}),
        "FLAREGATE_REFERENCES_ENDPOINT": moto.endpoint,
        "FLAREGATE_REFERENCES_ACCESS_KEY": moto.access_key,
        "FLAREGATE_REFERENCES_SECRET_KEY": moto.secret_key,
        "FLAREGATE_REFERENCE_HOSTS": web.host,
        "SSL_CERT_FILE": str(web.certificate),
    }
    with gateway_on(tmp_path_factory.mktemp("references") / "home", **settings) as gateway:
        yield gateway


def local_scores(table):
    return cross_val_score(LogisticRegression(max_iter=1000), table[NAMES], table["target"], cv=3)


def curl(gateway, *words):
    command = ["curl", "-sS", "--fail-with-body", "-H", f"Authorization: Bearer {gateway.token}", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_a_definition_for_curl_reads_a_folder_of_a_bucket(gateway, bucket, put):
    for number in range(3):
        rows = io.BytesIO()
        TABLE[number * 50 : (number + 1) * 50].reset_index(drop=True).to_parquet(rows)
        put(f"data/iris/part-{number}.parquet", rows.getvalue())
    folder = {"reference": f"s3://{bucket}/data/iris/", "format": "parquet"}
    node = {"name": "lr", "kind": "estimator", "import": "sklearn.linear_model:LogisticRegression"}
    definition = {
        "pipeline": {"nodes": [node | {"params": {"max_iter": 1000}}]},
        "action": "cross_validate",
        "inputs": {"X": folder | {"columns": NAMES}, "y": folder | {"column": "target"}},
        "cv": 3,
    }
    body = json.dumps(definition)
    answer = curl(gateway, "-H", "Content-Type: application/json", "--data-binary", body, f"{gateway.url}/v1/jobs")
    job = f"{gateway.url}/v1/jobs/{json.loads(answer)['id']}"
    assert "event: end" in curl(gateway, "-N", f"{job}/events")
    view = json.loads(curl(gateway, job))
    assert view["state"] == "succeeded", view
    (line,) = curl(gateway, f"{job}/results").splitlines()
    np.testing.assert_array_equal(json.loads(line)["scores"]["score"], local_scores(TABLE))


def test_the_cache_knows_the_same_file_and_not_another(gateway, web):
    def page(table, etag):
        web.pages["/iris.csv"] = Page(table.to_csv(index=False).encode(), etag=etag)

    def scores(client):
        pipe = fg.Pipeline("one")
        pipe.node("lr", LogisticRegression(max_iter=1000))
        X, y = (fg.ref(web.url("/iris.csv"), **wanted) for wanted in ({"columns": NAMES}, {"column": "target"}))
        return client.submit(pipe, action="cross_validate", X=X, y=y, cv=3, workers=0).result().best

    other = TABLE.sample(frac=1, random_state=0).reset_index(drop=True)
    with fg.Client(gateway.url, token=gateway.token, warm=20) as client:
        page(TABLE, '"1"')
        first, again = scores(client), scores(client)
        page(other, '"2"')
        changed = scores(client)
    np.testing.assert_array_equal(first.scores["score"], local_scores(TABLE))
    assert (first.cached, again.cached) == (False, True)
    assert not changed.cached
    np.testing.assert_array_equal(
        changed.scores["score"], local_scores(pd.read_csv(io.StringIO(other.to_csv(index=False))))
    )


def test_a_file_that_changes_after_the_gateway_has_seen_it_ends_the_job(gateway, web):
    web.pages["/moving.csv"] = Page(TABLE.to_csv(index=False).encode(), etags=['"1"'], etag='"2"')
    pipe = fg.Pipeline("one")
    pipe.node("lr", LogisticRegression())
    X = fg.ref(web.url("/moving.csv"), columns=NAMES)
    with gateway.client() as client:
        job = client.submit(pipe, X=X, y=TABLE["target"])
        view = job.wait(60)
        assert (view.state, view.reason) == ("failed", "stage_in_failed")
        assert "/moving.csv has changed since the job began" in view.message


def test_a_missing_file_ends_the_job_with_what_the_store_said(gateway, bucket):
    pipe = fg.Pipeline("one")
    pipe.node("lr", LogisticRegression())
    X = fg.ref(f"s3://{bucket}/data/absent.parquet")
    with gateway.client() as client, pytest.raises(fg.JobFailed, match=f"/inputs/X: s3://{bucket}/data/absent.parquet"):
        client.submit(pipe, X=X, y=TABLE["target"]).result()
