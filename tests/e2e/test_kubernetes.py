"""A job as pods: a real gateway, a small API server with a node, and pods that run the real worker."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_iris

import flaregate as fg
from flaregate.versions import here
from flaregate_wire.events import AttemptEvent
from flaregate_wire.states import Reason, State
from tests.conftest import gateway_on, until
from tests.e2e.test_code_engine import Patient
from tests.servers.kubelet import Processes
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


class WithoutOne(Processes):
    """Nodes of which that of the last worker cannot pull the image."""

    def lacks(self, name, image):
        return name.split("-")[-2] == "2"


@pytest.mark.parametrize("needed", [1, 2])
def test_a_worker_whose_image_cannot_be_pulled_is_not_waited_for(tmp_path, needed):
    with (
        kubernetes(tmp_path / "cluster", WithoutOne(tmp_path / "pods")) as api,
        gateway_on(tmp_path / "home", **settings(api)) as gateway,
        gateway.client() as client,
    ):
        pipe = fg.Pipeline("iris")
        pipe.node("patient", Patient(max_iter=500))
        sizes = {"workers": 2, "min_workers": needed, "cpus": 1, "memory": 1_000_000_000}
        job = client.submit(pipe, action="fit", X=X, y=Y, retries=0, **sizes)
        view = job.wait(timeout=50)
        story = "ErrImagePull: no such image"
        if needed == 1:
            assert view.state is State.SUCCEEDED
            lost = [event for event in job.events() if isinstance(event, AttemptEvent) and event.phase == "lost"]
            told = [(event.index, event.detail) for event in lost]
            assert told == [(2, {"trouble": "image_pull", "story": story})]
        else:
            assert (view.state, view.reason) == (State.FAILED, Reason.IMAGE_PULL_FAILED)
            told = f"the image cannot be pulled ({story}): worker 2 does not start, and min_workers is 2"
            assert view.message == told
        until(lambda: not api.objects["pods"] and not api.objects["jobs"], 20)


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
