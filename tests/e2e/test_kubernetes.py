"""A job as pods: a real gateway, a small API server with a node, and pods that run the real worker."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_iris

import flaregate as fg
from flaregate.versions import here
from flaregate_wire.states import Reason, State
from tests.conftest import gateway_on, until
from tests.e2e.test_code_engine import Patient
from tests.servers.kubernetes import kubernetes

pytestmark = pytest.mark.platforms
X, Y = load_iris(return_X_y=True)


def settings(api, image="worker"):
    given = {
        "LAUNCHER": "kubernetes",
        "KUBERNETES_IMAGE": image,
        "KUBERNETES_CONFIG": str(api.configuration),
        "WORKER_ENVIRONMENT": json.dumps({**here(), "ray": "2"}),
        "PLATFORM_LEASE": "60",
    }
    return {f"FLAREGATE_{name}": value for name, value in given.items()}


def test_a_job_runs_in_a_head_and_two_workers_and_nothing_is_left(tmp_path):
    with (
        kubernetes(tmp_path / "cluster") as api,
        gateway_on(tmp_path / "home", **settings(api)) as gateway,
        gateway.client() as client,
    ):
        pipe = fg.Pipeline("iris")
        pipe.node("patient", Patient(max_iter=500))
        axes = {"patient__C": list(np.logspace(-2, 2, 12))}
        job = client.submit(
            pipe, action="search", X=X, y=Y, axes=axes, cv=5, workers=2, min_workers=2, cpus=1, memory=1_000_000_000
        )
        result = job.result(timeout=150)
        assert len(result.stats.hosts) == 3
        assert len(result.outcomes) == 12
        until(lambda: not api.objects["pods"] and not api.objects["jobs"], 20)
        view = job.view()
        seconds = (view.timeline["gone"] - view.timeline["launched"]).total_seconds()
        assert 0 < view.usage.vcpu_seconds <= 3 * (seconds + 2)
        assert view.usage.cost == "unknown"


def test_an_image_that_cannot_be_pulled_ends_the_job_long_before_its_deadline(tmp_path):
    with (
        kubernetes(tmp_path / "cluster") as api,
        gateway_on(tmp_path / "home", **settings(api, "missing/image")) as gateway,
        gateway.client() as client,
    ):
        pipe = fg.Pipeline("iris")
        pipe.node("patient", Patient(max_iter=500))
        view = client.submit(pipe, action="fit", X=X, y=Y, workers=0, retries=0).wait(timeout=30)
        assert (view.state, view.reason) == (State.FAILED, Reason.IMAGE_PULL_FAILED)
        assert "ErrImagePull: no such image" in view.message
        until(lambda: not api.objects["pods"] and not api.objects["jobs"], 20)
