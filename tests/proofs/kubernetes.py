"""The proof of the Kubernetes launcher on a real control plane; `python -m tests.proofs FOLDER` runs it.

Only the node is ours. The launcher comes in as the gateway's service account, with what infra/kubernetes gives to it.
"""

import asyncio
import contextlib
import json
import secrets
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from flaregate.versions import here
from flaregate_wire.states import State
from gateway.launchers.base import LaunchFailed
from gateway.launchers.conformance import SLEEPS, LauncherConformance, order, patience
from tests.conftest import ROOT, until
from tests.contracts.kubernetes import KubernetesBehaviour
from tests.contracts.launchers import KubernetesPlatform
from tests.e2e.digits import SIZE, assert_as_local, search
from tests.servers.containers import gateway_of, machine, store_of
from tests.servers.kubelet import NAMESPACE, Containers, Node, Processes, at_work
from tests.servers.podman import WORKER
from tests.servers.real_kubernetes import control_plane

pytestmark = pytest.mark.timeout(400)
MANIFESTS = ROOT / "infra" / "kubernetes"
GATEWAY = "flaregate-gateway"


@pytest.fixture(scope="module")
def plane(tmp_path_factory, pytestconfig):
    proof = pytestconfig.proof
    with control_plane(tmp_path_factory.mktemp("plane"), proof.binaries) as plane:
        proof.told["versions"] = plane.versions()
        plane.kubectl("apply", f"--filename={MANIFESTS / 'namespace.yaml'}")
        plane.kubectl("apply", f"--kustomize={MANIFESTS}")
        plane.account_configuration = plane.account(GATEWAY)
        yield plane


@pytest.fixture
def node(plane, tmp_path):
    """A node of processes."""
    with at_work(plane.configuration, lambda api: Node(api, Processes(tmp_path / "pods"))):
        yield
        jobs = f"--namespace={NAMESPACE}", "delete", "jobs,pods", "--all"
        plane.kubectl(*jobs, "--cascade=background", "--grace-period=1")


class Platform(KubernetesPlatform):
    """Launchers of one gateway; the server is stopped to be silent."""

    def __init__(self, plane):
        account = SimpleNamespace(configuration=plane.account_configuration)
        super().__init__(account, patience=60, gateway=f"t{secrets.token_hex(4)}")
        self._plane = plane

    @contextlib.contextmanager
    def blind(self):
        self._plane.stop()
        try:
            yield
        finally:
            self._plane.start()


@pytest.fixture
async def real(plane, node):
    platform = Platform(plane)
    yield platform
    for launcher in platform.made:
        await launcher.close()


class TestLauncher(LauncherConformance):
    """The shipped suite."""

    @pytest.fixture
    def platform(self, real):
        return real


class TestKubernetes(KubernetesBehaviour):
    """What the small one of the other tests has to do, too."""

    @pytest.fixture
    def platform(self, real):
        return real

    @pytest.fixture
    def admin(self, plane):
        return plane.configuration


def objects(plane, kind, gateway):
    asked = f"--namespace={NAMESPACE}", "get", kind, f"--selector=flaregate.io/gateway={gateway}", "--output=json"
    return json.loads(plane.kubectl(*asked))["items"]


def test_the_server_takes_every_manifest(plane):
    told = plane.kubectl("apply", f"--kustomize={MANIFESTS}", "--server-side", "--force-conflicts", "--dry-run=server")
    kinds = [line.partition("/")[0].partition(".")[0] for line in told.splitlines()]
    assert sorted(kinds) == [
        "configmap",
        "deployment",
        "namespace",
        "networkpolicy",
        "role",
        "rolebinding",
        "service",
        "serviceaccount",
        "serviceaccount",
    ]


def rights(plane, account, namespace):
    """What a service account may do, as the server itself says."""
    asked = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    told = plane.kubectl(
        "create", f"--raw={path}", "--filename=-", input=json.dumps(asked), configuration=plane.account(account)
    )
    status = json.loads(told)["status"]
    assert not status["incomplete"]
    return {
        (group, resource, verb)
        for rule in status["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_gateway_s_account_may_do_what_the_role_says_and_nothing_more(plane):
    anyone = rights(plane, "default", NAMESPACE)
    own = rights(plane, GATEWAY, NAMESPACE) - anyone
    assert own == {
        *(("batch", "jobs", verb) for verb in ("create", "delete", "get", "list")),
        *(("", "pods", verb) for verb in ("delete", "list")),
    }
    assert rights(plane, GATEWAY, "default") == anyone
    assert rights(plane, "flaregate-worker", NAMESPACE) == anyone
    assert {group for group, _, _ in anyone} == {"authorization.k8s.io"}


async def test_over_quota_is_not_now(plane, real):
    launcher = real.launcher(SLEEPS)
    quota = f"--namespace={NAMESPACE}", "create", "quota", "few", "--hard=count/jobs.batch=0"
    plane.kubectl(*quota)
    try:
        async with patience(real):
            while "0" not in plane.kubectl(
                f"--namespace={NAMESPACE}", "get", "quota", "few", "--output=jsonpath={.status.hard}"
            ):
                await asyncio.sleep(0.1)
        with pytest.raises(LaunchFailed, match="exceeded quota"):
            await launcher.launch(order(real))
    finally:
        plane.kubectl(f"--namespace={NAMESPACE}", "delete", "quota", "few")


def test_a_job_on_a_head_and_two_workers(plane, tmp_path, pytestconfig):
    folder = tmp_path / "machine"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(machine(folder))
        starts = Containers(host.podman, host.network, host.label, tmp_path / "pods")
        stack.enter_context(at_work(plane.configuration, lambda api: Node(api, starts)))
        given = {
            "LAUNCHER": "kubernetes",
            "KUBERNETES_IMAGE": WORKER,
            "KUBERNETES_CONFIG": plane.account_configuration,
            "KUBERNETES_SERVICE_ACCOUNT": "flaregate-worker",
            "WORKER_ENVIRONMENT": json.dumps({**here(), "ray": "2", "pandas": "3"}),
            "PLATFORM_LEASE": 60,
        }
        swift = tmp_path / "swift"
        swift.mkdir()
        store = stack.enter_context(store_of(swift, host))
        gateway = stack.enter_context(gateway_of(tmp_path, host, store, **given))
        flaregate = stack.enter_context(gateway.client())
        begun = datetime.now(UTC)
        job = search(flaregate, **SIZE)
        result = job.result(timeout=300)
        assert_as_local(result)
        assert len(result.stats.hosts) == 3
        assert job.view().state is State.SUCCEEDED
        until(lambda: not objects(plane, "jobs,pods", host.name), 60)
        until(lambda: "gone" in job.view().timeline, 60)
        assert host.left() == []
        times = job.view().timeline
        seconds = {name: (times[name] - begun).total_seconds() for name in ("launched", "joined", "committed", "gone")}
        told = {
            "hosts": sorted(result.stats.hosts),
            "seconds": {name: round(took, 2) for name, took in seconds.items()},
        }
        pytestconfig.proof.told["job"] = told
