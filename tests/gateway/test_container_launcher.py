"""What a container engine answers, in the launcher's words; the rest is the conformance suite on a real one."""

import pytest

from gateway.launchers.base import CannotSee
from gateway.launchers.container import ContainerLauncher
from tests.servers.podman import refusal


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (409, "container 1a2b is not running"),
        (500, "cannot kill container: 1a2b is not running"),
        (500, "can only kill running containers. 1a2b is in state stopped: container state improper"),
    ],
)
def test_a_container_that_has_ended_just_before_its_stop_is_stopped(status, words):
    asked = []

    def kill(name):
        asked.append(name)
        raise refusal(status, words)

    ContainerLauncher._each(["one", "two"], kill)
    assert asked == ["one", "two"]


def test_another_refusal_is_no_end():
    def kill(_):
        raise refusal(500, "no space left on device")

    with pytest.raises(CannotSee, match="no space left on device"):
        ContainerLauncher._each(["one"], kill)
