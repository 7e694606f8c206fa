"""deploy.sh and destroy.sh against a double of `ibmcloud` that refuses what the real one does not have."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.settings import Settings
from tests.conftest import ROOT

FOLDER = ROOT / "infra" / "code_engine"
SETTINGS = """
NAME=flaregate
REGION=eu-de
RESOURCE_GROUP=Default
GATEWAY_IMAGE=de.icr.io/ns/flaregate-gateway:1
WORKER_IMAGE=de.icr.io/ns/flaregate-worker:1
WORKER_ENVIRONMENT='{"python": "3.11", "ray": "2"}'
REGISTRY_PASSWORD=canary-registry
DATABASE_URL='postgresql://u:canary-database@db.example:5432/flaregate?sslmode=verify-full'
BUCKET=flaregate-objects-0123
GATEWAYS=3
PEER_TCP=false
"""


class Cloud:
    def __init__(self, folder):
        self.folder = folder
        self.state_file = folder / "state.json"
        tools = folder / "bin"
        tools.mkdir()
        double = tools / "ibmcloud"
        double.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {Path(__file__).with_name("ibmcloud.py")} "$@"\n')
        double.chmod(0o755)
        self.settings = folder / "settings"
        self.settings.write_text(SETTINGS)

    def run(self, script, *given, fails_at=0):
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "IBMCLOUD_STATE": str(self.state_file),
            "IBMCLOUD_FAILS_AT": str(fails_at and len(self.calls) + fails_at),
            "TMPDIR": str(self.folder),
        }
        command = ["bash", str(FOLDER / script), str(self.settings), *given]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    @property
    def state(self):
        return json.loads(self.state_file.read_text()) if self.state_file.exists() else {"calls": [], "things": {}}

    @property
    def calls(self):
        return self.state["calls"]

    @property
    def things(self):
        return self.state["things"]


@pytest.fixture
def cloud(tmp_path):
    return Cloud(tmp_path)


def deployed(cloud):
    ran = cloud.run("deploy.sh")
    assert ran.returncode == 0, ran.stderr
    return ran


def test_the_shell_finds_nothing_to_mend():
    scripts = sorted(str(path.relative_to(ROOT)) for path in FOLDER.glob("*.sh"))
    assert len(scripts) == 2
    shellcheck = str(Path(sys.executable).with_name("shellcheck"))
    ran = subprocess.run([shellcheck, "-x", *scripts], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


def test_a_gateway_that_goes_to_zero_with_its_secrets_and_a_job_without_retries(cloud, monkeypatch):
    said = deployed(cloud)
    app, job = cloud.things["application/flaregate"], cloud.things["job/flaregate-worker"]
    assert (app["--min-scale"], app["--max-scale"], app["--port"]) == ("0", "3", "8080")
    assert (job["--retrylimit"], job["--service-account"], app["--service-account"]) == ("0", "none", "none")
    assert cloud.things["secret/flaregate-images"]["--server"] == "de.icr.io"
    policy = cloud.things["policy/flaregate-gateway"]
    assert (policy["--roles"], policy["--service-name"]) == ("Writer", "codeengine")
    assert policy["--service-instance"] == "11111111-2222-3333-4444-555555555555"
    assert "FLAREGATE_URL=https://flaregate.0123.eu-de.codeengine.appdomain.cloud" in said.stdout
    given = cloud.things["secret/flaregate-gateway"]["data"] | cloud.things["configmap/flaregate-gateway"]["data"]
    for name in list(os.environ):
        if name.startswith("FLAREGATE_"):
            monkeypatch.delenv(name)
    injected = {"CE_APP": "flaregate", "CE_SUBDOMAIN": "0123", "CE_DOMAIN": "eu-de.codeengine.appdomain.cloud"}
    for name, value in (given | injected).items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert set(given) <= {f"FLAREGATE_{name.upper()}" for name in Settings.model_fields}
    assert settings.public_url == "https://flaregate.0123.eu-de.codeengine.appdomain.cloud"
    assert (settings.launcher, settings.store, settings.awake) == ("code_engine", "s3", 20)
    assert settings.worker_environment == {"python": "3.11", "ray": "2"}
    assert settings.database.endswith("?sslmode=verify-full")
    assert settings.code_engine_peer_tcp is False


def test_no_secret_is_an_argument_or_stays_in_a_file(cloud):
    said = deployed(cloud)
    secret = cloud.things["secret/flaregate-gateway"]["data"]
    canaries = ["canary-", secret["FLAREGATE_TOKEN"], secret["FLAREGATE_SECRET"]]
    text = json.dumps(cloud.calls) + said.stdout + said.stderr
    assert not [canary for canary in canaries if canary in text]
    left = {path.name for path in cloud.folder.iterdir()}
    assert left == {"bin", "settings", "state.json"}


def test_again_it_updates_and_makes_no_new_secrets(cloud):
    deployed(cloud)
    before = cloud.things
    cloud.settings.write_text(SETTINGS.replace("worker:1", "worker:2").replace("GATEWAYS=3", "GATEWAYS=5"))
    first = len(cloud.calls)
    deployed(cloud)
    again = [" ".join(call[:3]) for call in cloud.calls[first:]]
    assert not [call for call in again if "create" in call]
    assert cloud.things["secret/flaregate-gateway"] == before["secret/flaregate-gateway"]
    assert cloud.things["job/flaregate-worker"]["--image"] == "de.icr.io/ns/flaregate-worker:2"
    assert cloud.things["application/flaregate"]["--max-scale"] == "5"


@pytest.mark.slow
def test_what_broke_off_half_way_is_gone_on_with(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = Cloud(tmp_path / "whole")
    deployed(whole)
    for at in range(3, len(whole.calls) + 1, 3):
        folder = tmp_path / str(at)
        folder.mkdir()
        cloud = Cloud(folder)
        cloud.run("deploy.sh", fails_at=at)
        deployed(cloud)
        assert cloud.things.keys() == whole.things.keys(), at


def test_destroy_leaves_the_objects_and_may_be_repeated(cloud):
    deployed(cloud)
    for _ in range(2):
        ran = cloud.run("destroy.sh")
        assert ran.returncode == 0, ran.stderr
    assert set(cloud.things) == {
        "bucket/flaregate-objects-0123",
        "instance/flaregate-objects",
        "apikey/flaregate-gateway",
    }
    assert cloud.run("destroy.sh", "--with-objects").returncode == 0
    assert "instance/flaregate-objects" not in cloud.things


@pytest.mark.parametrize(
    ("script", "given", "says"),
    [
        ("deploy.sh", ("BUCKET=",), "BUCKET is not set in"),
        ("deploy.sh", ("DATABASE_URL=",), "DATABASE_URL is not set in"),
        ("destroy.sh", ("NAME=",), "is not set in"),
    ],
)
def test_settings_that_are_missing_are_named_and_nothing_is_done(cloud, script, given, says):
    cloud.settings.write_text(SETTINGS + "\n".join(given) + "\n")
    ran = cloud.run(script)
    assert ran.returncode != 0
    assert says in ran.stderr
    assert not cloud.calls


def test_no_settings_and_unknown_options(cloud):
    cloud.settings.unlink()
    ran = cloud.run("deploy.sh")
    assert (ran.returncode, "copy settings.example" in ran.stderr) == (2, True)
    ran = cloud.run("destroy.sh", "--everything")
    assert (ran.returncode, "--with-objects" in ran.stderr) == (2, True)
