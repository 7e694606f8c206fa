"""infra/compose as its own tool reads it: what it says is whole, confined, and has no secret of its own."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from tests.conftest import ROOT

FOLDER = ROOT / "infra" / "compose"


@pytest.fixture(scope="module")
def composed():
    command = [
        sys.executable,
        "-m",
        "podman_compose",
        "--env-file",
        str(FOLDER / "env.example"),
        "-f",
        str(FOLDER / "compose.yaml"),
    ]
    ran = subprocess.run([*command, "config"], capture_output=True, text=True, check=False, cwd=FOLDER)
    assert ran.returncode == 0, ran.stderr
    return yaml.safe_load(ran.stdout)


def test_compose_reads_it_and_services_wait_for_each_other(composed):
    assert set(composed["services"]) == {"gateway", "database", "s3", "bucket"}
    assert set(composed["volumes"]) == {"home", "database", "objects"}
    waits = composed["services"]["gateway"]["depends_on"]
    assert {name: one["condition"] for name, one in waits.items()} == {
        "database": "service_healthy",
        "s3": "service_started",
    }
    assert composed["services"]["gateway"]["restart"] == "unless-stopped", "until the bucket is there"
    assert all("healthcheck" in composed["services"][name] for name in ("gateway", "database"))


def test_the_gateway_is_confined_and_is_set_up_whole(composed, tmp_path, monkeypatch):
    gateway = composed["services"]["gateway"]
    assert gateway["read_only"] is True
    assert gateway["cap_drop"] == ["ALL"]
    assert gateway["security_opt"] == ["no-new-privileges:true"]
    from gateway.settings import load

    for name, value in gateway["environment"].items():
        monkeypatch.setenv(name, value)
    settings = load()
    assert (settings.launcher, settings.store, settings.s3_bucket) == ("container", "s3", "flaregate")
    assert settings.public_url == "http://192.0.2.10:8080"


def test_every_variable_is_in_the_example_and_no_secret_in_the_file():
    text = (FOLDER / "compose.yaml").read_text()
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", text))
    given = set(re.findall(r"^([A-Z0-9_]+)=", (FOLDER / "env.example").read_text(), re.MULTILINE))
    assert given <= used
    assert used - given == {"DATABASE_IMAGE", "S3_IMAGE"}
    plain = yaml.safe_load(text)["services"]
    for service in plain.values():
        for name, value in service["environment"].items():
            assert not re.search("PASSWORD|SECRET|TOKEN", name) or value.startswith("${"), name


def test_the_policy_for_aws_names_only_what_the_launcher_asks():
    policy = json.loads((ROOT / "infra" / "aws_batch" / "policy.json").read_text())
    allowed = set()
    for statement in policy["Statement"]:
        actions = statement["Action"]
        allowed |= {actions} if isinstance(actions, str) else set(actions)
    source = (ROOT / "gateway" / "launchers" / "aws_batch.py").read_text()
    called = set(re.findall(r"self\._batch\.([a-z_]+)\(", source)) - {"close", "get_paginator"} | {"list_jobs"}
    words = {"batch:" + "".join(word.title() for word in name.split("_")) for name in called}
    assert allowed == words | {"batch:TagResource"}
