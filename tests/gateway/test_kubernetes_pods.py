"""What a pod says of its container: how it ended, why it waits, who took it away."""

import pytest
from lightkube.resources.core_v1 import Pod

from gateway.launchers.base import Phase, Trouble
from gateway.launchers.kubernetes_pods import ATTEMPT, INDEX, sighting_of

TAKEN = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "PreemptionByScheduler",
    "message": "preempting to accommodate a higher priority pod",
}


def told(state):
    return {"name": "f", "image": "", "imageID": "", "ready": True, "restartCount": 0, "state": state}


def pod(phase="Running", state=None, **status):
    statuses = [] if state is None else [told(state)]
    found = {
        "metadata": {"labels": {ATTEMPT: "job-1", INDEX: "3"}},
        "status": {"phase": phase, "containerStatuses": statuses} | status,
    }
    return Pod.from_dict(found)


FULL = 'Usage of EmptyDir volume "tmp" exceeds the limit "4Gi". '
OVER = "Pod ephemeral local storage usage exceeds the total limit of containers 4Gi. "
LOW = (
    "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 900Mi. "
    "Container flaregate was using 5Gi, which exceeds its request of 0. "
)


@pytest.mark.parametrize(
    ("given", "phase", "code", "trouble"),
    [
        (pod("Pending"), Phase.PENDING, None, None),
        (pod("Running", {"running": {"startedAt": "2026-11-25T01:00:00Z"}}), Phase.RUNNING, None, None),
        (pod("Failed", {"terminated": {"exitCode": 7, "reason": "Error"}}), Phase.ENDED, 7, None),
        (
            pod("Failed", {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            Phase.ENDED,
            -9,
            Trouble.OUT_OF_MEMORY,
        ),
        (pod("Failed", reason="Evicted", message=FULL), Phase.ENDED, None, Trouble.OUT_OF_DISK),
        (pod("Failed", reason="Evicted", message=OVER), Phase.ENDED, None, Trouble.OUT_OF_DISK),
        (
            pod("Failed", {"terminated": {"exitCode": 137, "reason": "Error"}}, reason="Evicted", message=FULL),
            Phase.ENDED,
            -9,
            Trouble.OUT_OF_DISK,
        ),
        (pod("Failed", reason="Evicted", message=LOW), Phase.ENDED, None, None),
        (pod("Failed", reason="Preempting"), Phase.ENDED, None, None),
        *[
            (pod("Pending", {"waiting": {"reason": reason, "message": message}}), Phase.PENDING, None, trouble)
            for reason, message, trouble in [
                ("ImagePullBackOff", 'Back-off pulling image "worker:1"', Trouble.IMAGE_RETRIED),
                ("ImagePullBackOff", 'Back-off pulling image "x": ErrImagePull: x: not found', Trouble.IMAGE_PULL),
                ("ErrImagePull", 'failed to resolve reference "registry/x:1": not found', Trouble.IMAGE_PULL),
                ("ErrImagePull", "pull access denied, repository does not exist", Trouble.IMAGE_PULL),
                ("ErrImagePull", "dial tcp 10.0.0.1:443: i/o timeout", Trouble.IMAGE_RETRIED),
                ("ErrImagePull", "toomanyrequests: rate limit", Trouble.IMAGE_RETRIED),
                ("RegistryUnavailable", None, Trouble.IMAGE_RETRIED),
                ("InvalidImageName", "couldn't parse image name", Trouble.IMAGE_PULL),
                ("ErrImageNeverPull", None, Trouble.IMAGE_PULL),
                ("CreateContainerConfigError", 'secret "x" not found', Trouble.MISCONFIGURED),
                ("ContainerCreating", None, None),
            ]
        ],
    ],
)
def test_what_a_pod_says(given, phase, code, trouble):
    attempt, seen = sighting_of(given)
    assert (attempt, seen.index) == ("job-1", 3)
    assert (seen.phase, seen.exit_code, seen.trouble) == (phase, code, trouble)


@pytest.mark.parametrize(
    ("given", "story"),
    [
        (pod("Failed", reason="Evicted", message=LOW), LOW[:40]),
        (pod("Failed", {"terminated": {"exitCode": 137, "reason": "Error"}}, reason="Evicted", message=LOW), LOW[:40]),
        (pod("Failed", {"terminated": {"exitCode": 143, "reason": "Error"}}, conditions=[TAKEN]), "higher priority"),
        (pod("Failed", {"terminated": {"exitCode": 1, "reason": "ContainerCannotRun"}}), "ContainerCannotRun"),
        (
            pod(
                "Pending",
                conditions=[
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes are available: 3 Insufficient cpu.",
                    }
                ],
            ),
            "Unschedulable: 0/3 nodes are available: 3 Insufficient cpu.",
        ),
        (
            pod("Pending", {"waiting": {"reason": "CreateContainerConfigError", "message": "no such secret"}}),
            "CreateContainerConfigError: no such secret",
        ),
        (pod("Failed", {"terminated": {"exitCode": 7, "reason": "Error"}}), None),
    ],
)
def test_why_a_pod_waits_or_was_taken_away_is_told(given, story):
    _, seen = sighting_of(given)
    assert story in seen.story if story else seen.story == ""
