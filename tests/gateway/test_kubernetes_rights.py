"""infra/kubernetes: the rights are those that the launcher uses, the settings are whole, pods have the labels that policies name."""

import re
from ipaddress import ip_address, ip_network

import pytest
import yaml

from gateway.launchers.conformance import SLEEPS, order
from gateway.launchers.kubernetes_pods import ATTEMPT
from gateway.settings import load
from tests.conftest import ROOT
from tests.contracts.launchers import KubernetesPlatform
from tests.servers.kubernetes import kubernetes

FOLDER = ROOT / "infra" / "kubernetes"
VERBS = {("POST", False): "create", ("GET", False): "list", ("GET", True): "get", ("DELETE", True): "delete"}


def documents(name):
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


async def test_the_role_has_what_the_launcher_asks_and_no_more(tmp_path):
    with kubernetes(tmp_path) as api:
        platform = KubernetesPlatform(api)
        launcher = platform.launcher(SLEEPS)
        asked_for = order(platform)
        handle = await launcher.launch(asked_for)
        await platform.launcher(SLEEPS).launch(asked_for)
        await launcher.observe([handle])
        await launcher.stop(handle)
        await launcher.forget(handle)
        for made in platform.made:
            await made.close()
        asked = set()
        for request in api.requests:
            method, path = request.split()
            kind, name = re.fullmatch(r".*/namespaces/flaregate/(\w+)(/.+)?", path).groups()
            asked.add((kind, VERBS[method, name is not None]))
    role = next(one for one in documents("rights.yaml") if one["kind"] == "Role")
    assert {(kind, verb) for rule in role["rules"] for kind in rule["resources"] for verb in rule["verbs"]} == asked


def test_settings_are_taken_and_no_secret_lies_there(monkeypatch):
    (made,) = documents("kustomization.yaml")
    (literals,) = (one["literals"] for one in made["configMapGenerator"])
    given = dict(one.split("=", 1) for one in literals)
    secrets = re.findall(r"--from-literal=(FLAREGATE_\w+)=", (FOLDER / "README.md").read_text())
    assert not given.keys() & set(secrets)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    for name in secrets:
        monkeypatch.setenv(name, "postgresql://u:p@h/d" if name.endswith("URL") else "x" * 40)
    settings = load()
    assert "python" in settings.worker_environment, "without it every payload is refused"
    assert (settings.launcher, settings.store, settings.kubernetes_service_account) == (
        "kubernetes",
        "s3",
        "flaregate-worker",
    )


@pytest.mark.parametrize("kind", ["podSelector", "ingress", "egress"])
def test_the_policy_is_about_pods_of_attempts(kind):
    (policy,) = documents("network.yaml")
    assert ATTEMPT in str(policy["spec"][kind])


def test_the_gateway_s_pod_has_no_privilege_and_its_service_finds_it():
    service, deployment = documents("gateway.yaml")
    pod = deployment["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    (container,) = pod["spec"]["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True


@pytest.mark.parametrize(
    ("address", "reached"),
    [
        ("10.244.3.7", False),  # pods and services of common clusters
        ("10.96.0.1", False),
        ("172.20.0.1", False),
        ("192.168.1.20", False),
        ("100.64.9.1", False),
        ("169.254.169.254", False),  # the nodes' metadata service
        ("8.8.8.8", True),
    ],
)
def test_the_policy_lets_pods_reach_the_world_but_nothing_inside(address, reached):
    (policy,) = documents("network.yaml")
    blocks = [to["ipBlock"] for rule in policy["spec"]["egress"] for to in rule["to"] if "ipBlock" in to]
    found = any(
        ip_address(address) in ip_network(block["cidr"])
        and not any(ip_address(address) in ip_network(one) for one in block.get("except", ()))
        for block in blocks
    )
    assert found is reached
