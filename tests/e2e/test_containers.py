"""Jobs in real containers: a gateway with PostgreSQL and an S3 server, heads and workers of the image that users build."""

import contextlib
import json
import os

import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA

import flaregate as fg
from flaregate_wire.events import OutcomeEvent
from flaregate_wire.states import Reason, State
from tests.conftest import until
from tests.e2e.digits import SIZE, X, Y, assert_as_local, search
from tests.servers.containers import gateway_of, machine, store_of

pytestmark = [pytest.mark.services, pytest.mark.timeout(400)]
MIB = 1 << 20


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    with machine(tmp_path_factory.mktemp("machine")) as made:
        yield made


@pytest.fixture(scope="module")
def store(tmp_path_factory, host):
    with store_of(tmp_path_factory.mktemp("swift"), host) as server:
        yield server


@pytest.fixture(scope="module")
def in_containers(tmp_path_factory, host, store, postgres):
    with gateway_of(tmp_path_factory.mktemp("gateway"), host, store, DATABASE_URL=postgres.database()) as gateway:
        gateway.secrets = [store.secret_key, gateway.token, gateway.settings["FLAREGATE_DATABASE_URL"]]
        yield gateway


@pytest.fixture
def client(in_containers):
    with in_containers.client() as client:
        yield client


def first_outcome(job):
    found = next((event for event in job.events() if isinstance(event, OutcomeEvent)), None)
    view = job.view()
    assert found is not None, (view.reason, view.message, view.log_tail)
    return found


def assert_nothing_left(host):
    until(lambda: not host.left(), 30)


def attempt_of(job):
    return job.view().attempts[-1].id


def test_a_search_on_a_head_and_two_workers_has_scikit_learns_numbers_and_shows_no_key(client, in_containers, host):
    job = search(client)
    first_outcome(job)
    names = host.containers(attempt_of(job))
    assert len(names) == 3
    shown = host.podman.run("inspect", *names)
    assert not [secret for secret in in_containers.secrets if secret in shown]
    for told in json.loads(shown):
        assert told["HostConfig"]["Privileged"] is False
        assert told["EffectiveCaps"] in ([], None)
    result = job.result(timeout=200)
    assert len(result.stats.hosts) == 3
    assert_as_local(result)
    assert job.view().state is State.SUCCEEDED
    assert_nothing_left(host)


def confined():
    """What a container's own eyes see of its walls."""
    from pathlib import Path

    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    limits = {}
    for name, places in {
        "memory": ("memory.max", "memory/memory.limit_in_bytes"),
        "pids": ("pids.max", "pids/pids.max"),
    }.items():
        found = [Path("/sys/fs/cgroup") / place for place in places]
        limits[name] = next(path.read_text().strip() for path in found if path.exists())
    try:
        Path("/opt/flaregate/written").write_text("x")
        wrote = "yes"
    except OSError as exc:
        wrote = str(exc.errno)
    return {"caps": status["CapEff"], "bounds": status["CapBnd"], "no_new": status["NoNewPrivs"], "uid": status["Uid"].split()[0], "wrote": wrote, **limits}  # fmt: skip


class Confined(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self


def look(cell):
    return {**confined(), "cell": cell}


def test_a_container_has_no_privileges_a_read_only_root_and_limits(client, host):
    pipe = fg.Pipeline("walls")
    pipe.node("look", look)
    job = client.sweep(pipe, axes={"look__cell": [0]}, cache="off", workers=0, **SIZE)
    (outcome,) = job.result(timeout=120).outcomes
    assert outcome.error is None, outcome.error
    seen = outcome.output
    assert int(seen["caps"], 16) == int(seen["bounds"], 16) == 0
    assert (seen["no_new"], seen["uid"]) == ("1", "10001")
    assert seen["wrote"] == "30", "EROFS"
    assert abs(int(seen["memory"]) - SIZE["memory"]) < 1 << 16
    assert int(seen["pids"]) == 4096
    assert_nothing_left(host)


def devour(cell):
    """Takes more than a container has; only in one, and never without end."""
    eaten = []
    while cell and os.getuid() == 10001 and len(eaten) < 64:
        eaten.append(b"x" * (64 * MIB))
    return cell


def test_a_task_that_takes_all_memory_fails_and_the_others_do_not(client, host):
    pipe = fg.Pipeline("hungry")
    pipe.node("devour", devour)
    job = client.sweep(pipe, axes={"devour__cell": [0, 1]}, cache="off", workers=0, **SIZE)
    view = job.wait(timeout=200)
    outcomes = {one.axes["devour__cell"]: one for one in job.outcomes()}
    assert outcomes[0].error is None
    assert "memory" in str(outcomes[1].error), (view, outcomes)
    assert_nothing_left(host)


def test_a_cancelled_job_leaves_nothing(client, host):
    job = search(client, seconds=2)
    first_outcome(job)
    job.cancel()
    assert job.wait(timeout=60).state is State.CANCELLED
    assert_nothing_left(host)


def test_a_killed_gateway_goes_on_when_it_is_back(client, in_containers, host):
    job = search(client, seconds=1, cache="off")
    first_outcome(job)
    names = host.containers(attempt_of(job))
    in_containers.kill()
    assert host.containers(names[0].rpartition("-")[0].removeprefix(f"flaregate-{host.name}-")) == names
    in_containers.start()
    result = job.result(timeout=200)
    assert_as_local(result)
    assert len(job.view().attempts) == 1
    assert_nothing_left(host)


def test_after_a_killed_head_the_next_attempt_takes_what_was_done_from_the_cache(client, host):
    job = search(client, seconds=1.01, cv=3)
    seen = 0
    with contextlib.closing(iter(job.events())) as events:
        for event in events:
            seen += isinstance(event, OutcomeEvent)
            if seen == 4:
                break
    (head,) = host.containers(attempt_of(job), 0)
    host.podman.run("kill", head)
    view = job.wait(timeout=200)
    assert view.state is State.SUCCEEDED
    assert [attempt.reason for attempt in view.attempts] == [Reason.HEAD_LOST, None]
    assert job.result().stats.cached > 0
    assert_nothing_left(host)


class Heavy:
    """An input that takes more memory than there is, once it is read in a container."""

    def __getstate__(self):
        return {"light": True}

    def __setstate__(self, state):
        devour(1)


def test_a_head_without_memory_is_told_as_such_and_not_tried_again(client, host):
    job = client.map(look, [Heavy()], cache="off", workers=0, **SIZE)
    view = job.wait(timeout=200)
    assert (view.state, view.reason) == (State.FAILED, Reason.OOM_KILLED), view
    assert "(its container has 1.50 GB and has used " in str(view.message), view
    assert str(view.message).endswith("; resources.memory can be 3 GB"), view
    assert "resources.memory" in str(view.hint)
    assert len(view.attempts) == 1
    assert_nothing_left(host)


def test_another_version_is_refused_with_each_difference(client):
    pipe = fg.Pipeline("digits")
    pipe.node("pca", PCA())
    definition = client._prepared(pipe, {"X": X, "y": Y, "action": "fit", **SIZE}).definition
    other = definition.model_copy(
        update={"environment": definition.environment | {"cloudpickle": "1.0.0", "numpy": "1.9.0"}}
    )
    with pytest.raises(fg.Refused) as refused:
        client.submit_definition(other)
    assert refused.value.code == "environment_mismatch"
    assert [fault.pointer for fault in refused.value.errors] == ["/environment/cloudpickle", "/environment/numpy"]
