"""curl alone can submit, follow and download, as the README shows."""

import json
import subprocess

import pytest

from flaregate import fitted
from tests.conftest import ROOT


@pytest.fixture
def curl(gateway, tmp_path):
    def call(*words):
        done = subprocess.run(
            ["curl", "-sS", "--fail-with-body", "-H", f"Authorization: Bearer {gateway.token}", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout

    return call


def test_submit_follow_and_download(curl, gateway, tmp_path):
    submitted = curl(
        "-H",
        "Content-Type: application/json",
        "--data-binary",
        f"@{ROOT}/examples/digits.json",
        f"{gateway.url}/v1/jobs",
    )
    job = f"{gateway.url}/v1/jobs/{json.loads(submitted)['id']}"
    stream = curl("-N", f"{job}/events")
    assert "event: outcome" in stream
    last = stream.strip().split("\n\n")[-1]
    assert "event: end" in last
    assert '"succeeded"' in last
    names = [item["name"] for item in json.loads(curl(f"{job}/artifacts"))["artifacts"]]
    assert names == ["best"]
    curl("-L", "-o", "best.fitted.zip", f"{job}/artifacts/best")
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    assert fitted.load(tmp_path / "best.fitted.zip", trust=True).score(X, y) > 0.9
    results = [json.loads(line) for line in curl(f"{job}/results").splitlines()]
    assert sorted(line["candidate"] for line in results) == list(range(20))
    assert json.loads(curl(job))["state"] == "succeeded"
