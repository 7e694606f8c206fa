"""infra/kubernetes and the Jobs of the launcher, by the strict schemas of the oldest and of the newest Kubernetes."""

import copy

import kubernetes_validate
import pytest
import yaml

from gateway.launchers.conformance import order
from gateway.launchers.kubernetes import KubernetesLauncher, KubernetesSettings
from tests.conftest import ROOT
from tests.contracts.launchers import SMALL, KubernetesPlatform
from tests.servers.kubernetes import ApiServer, kubeconfig

FOLDER = ROOT / "infra" / "kubernetes"
VERSIONS = ("1.25", kubernetes_validate.latest_version())
"""The oldest one that the README names, and the newest."""


def built(folder):
    """What `kubectl kustomize` makes of a folder, for what is used there: no patches, no bases, no hashes in names."""
    (told,) = yaml.safe_load_all((folder / "kustomization.yaml").read_text())
    assert told.keys() == {"apiVersion", "kind", "namespace", "resources", "images", "configMapGenerator"}
    found = [one for name in told["resources"] for one in yaml.safe_load_all((folder / name).read_text())]
    found += [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": one["name"]},
            "data": dict(line.split("=", 1) for line in one["literals"]),
        }
        for one in told["configMapGenerator"]
    ]
    images = {one["name"]: f"{one['newName']}:{one['newTag']}" for one in told["images"]}
    for one in found:
        if one["kind"] != "Namespace":
            one["metadata"]["namespace"] = told["namespace"]
        for container in containers(one):
            container["image"] = images[container["image"]]
    return found


def containers(document):
    return document["spec"]["template"]["spec"]["containers"] if document["kind"] in ("Deployment", "Job") else []


MANIFESTS = built(FOLDER)


def named(kind):
    return {one["metadata"]["name"] for one in MANIFESTS if one["kind"] == kind}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", MANIFESTS, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_manifests_are_what_kubernetes_takes(document, version):
    kubernetes_validate.validate(document, version, strict=True)


def test_every_file_is_a_resource_and_what_is_named_is_made():
    (told,) = yaml.safe_load_all((FOLDER / "kustomization.yaml").read_text())
    assert {*told["resources"], "kustomization.yaml"} == {path.name for path in FOLDER.glob("*.yaml")}
    assert named("Namespace") == {told["namespace"]}
    (deployment,) = (one for one in MANIFESTS if one["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    sources = pod["containers"][0]["envFrom"]
    assert {one["configMapRef"]["name"] for one in sources if "configMapRef" in one} == named("ConfigMap")
    (secret,) = (one["secretRef"]["name"] for one in sources if "secretRef" in one)
    assert f"create secret generic {secret}" in (FOLDER / "README.md").read_text()
    assert pod["serviceAccountName"] in named("ServiceAccount")
    (binding,) = (one for one in MANIFESTS if one["kind"] == "RoleBinding")
    assert {binding["roleRef"]["name"]} == named("Role")
    assert {one["name"] for one in binding["subjects"]} <= named("ServiceAccount")
    (config,) = (one["data"] for one in MANIFESTS if one["kind"] == "ConfigMap")
    assert config["FLAREGATE_KUBERNETES_SERVICE_ACCOUNT"] in named("ServiceAccount")
    assert config["FLAREGATE_KUBERNETES_NAMESPACE"] == told["namespace"]


def test_a_word_that_kubernetes_does_not_know_is_found():
    wrong = copy.deepcopy(next(one for one in MANIFESTS if one["kind"] == "Deployment"))
    wrong["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="redinessProbe"):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@pytest.fixture
async def jobs(tmp_path):
    """The Jobs of a launch with all that can be set."""
    api = ApiServer()
    configuration = kubeconfig(tmp_path / "kubeconfig.json", api.url)
    settings = KubernetesSettings(
        "flaregate",
        "registry.example/flaregate-worker:1",
        "main",
        kubeconfig=str(configuration),
        service_account="flaregate-worker",
        image_pull_secrets=("registry",),
        node_selector={"pool": "batch"},
        tolerations=({"key": "batch", "operator": "Exists", "effect": "NoSchedule"},),
    )
    launcher = KubernetesLauncher(settings)
    await launcher.launch(order(KubernetesPlatform(api), cluster=SMALL.model_copy(update={"gpus": 1, "cpus": 1.5})))
    await launcher.close()
    api.close()
    return list(api.objects["jobs"].values())


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_jobs_of_a_launch_are_what_kubernetes_takes(jobs, version):
    assert len(jobs) == 2
    for job in jobs:
        kubernetes_validate.validate(job, version, strict=True)
