"""A gateway that starts on a bucket, or says in a line why it does not."""

import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from gateway.settings import SettingsRefused, load
from tests.servers.processes import free_ports
from tests.servers.s3 import Server, environment

SETTINGS = {
    "nothing more": ({}, "needs FLAREGATE_S3_BUCKET"),
    "half a key": ({"S3_BUCKET": "b", "S3_ACCESS_KEY": "k"}, "FLAREGATE_S3_SECRET_KEY, or neither"),
    "no URL": ({"S3_BUCKET": "b", "S3_ENDPOINT": "minio:9000"}, "FLAREGATE_S3_ENDPOINT: .*https?"),
    "another store": ({"STORE": "folder", "S3_BUCKET": "b"}, "FLAREGATE_S3_BUCKET without FLAREGATE_STORE=s3"),
    "no encryption": ({"S3_BUCKET": "b", "S3_KMS_KEY": "k"}, "FLAREGATE_S3_ENCRYPTION=aws:kms"),
    "no addressing": ({"S3_BUCKET": "b", "S3_ADDRESSING": "dns"}, "FLAREGATE_S3_ADDRESSING: .*'path' or 'virtual'"),
    "no file": ({"S3_BUCKET": "b", "S3_CA": "/no/such/file"}, "FLAREGATE_S3_CA: there is no file /no/such/file"),
    "no such store": ({"STORE": "tape"}, "FLAREGATE_STORE: .*'folder' or 's3'"),
}


@pytest.mark.parametrize(("given", "told"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_do_not_fit_together(given, told, monkeypatch):
    for name, value in ({"STORE": "s3"} | given).items():
        monkeypatch.setenv(f"FLAREGATE_{name}", value)
    with pytest.raises(SettingsRefused, match=told):
        load()


def refused(home, server, bucket, **more):
    done = subprocess.run(
        [sys.executable, "-m", "gateway"],
        env=environment(home, server, bucket, **more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_start_without_its_bucket(moto, tmp_path):
    told = refused(tmp_path / "home", moto, "no-such-bucket")
    assert "the store cannot be used: s3:PutObject on s3://no-such-bucket/probes/" in told
    assert "create the bucket, or correct FLAREGATE_S3_BUCKET" in told
    assert "FLAREGATE_STORE=s3 needs FLAREGATE_S3_BUCKET" in refused(tmp_path / "home", moto, "")


@pytest.mark.services
def test_a_start_with_a_wrong_key(swift, tmp_path):
    bucket = swift.bucket()
    assert "SignatureDoesNotMatch" in refused(tmp_path / "home", swift, bucket, S3_SECRET_KEY="wrong")
    told = refused(tmp_path / "home", swift, bucket, S3_ACCESS_KEY="test:nobody")
    assert "FLAREGATE_S3_ACCESS_KEY" in told


@contextlib.contextmanager
def running(home, server, bucket):
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway"], env=environment(home, server, bucket), stdout=subprocess.PIPE, text=True
    )
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        assert process.wait(20) == 0
        process.stdout.close()


def ready(url):
    try:
        with urllib.request.urlopen(f"{url}/readyz") as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_gateway_on_a_bucket(moto, tmp_path):
    with running(tmp_path / "home", moto, moto.bucket()) as url:
        status, found = ready(url)
        assert status == 200
        assert found["store"] == {"kind": "s3", "conditional_put": True, "checked_parts": False}
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(f"{url}/v1/objects/tenants/x?signature=0")
        with raised.value as error:
            assert error.code == 404
    assert not (tmp_path / "home" / "store").exists()


def test_a_gateway_whose_bucket_is_away(tmp_path):
    (port,) = free_ports(1)
    with running(tmp_path / "home", Server(f"http://127.0.0.1:{port}", "any", "key"), "bucket") as url:
        status, found = ready(url)
        assert (status, found["status"], found["store"]) == (503, "not ready", False)
