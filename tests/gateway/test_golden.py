"""What other programs rely on is in the repository, so that a change of it shows in the diff."""

import json
import subprocess
import sys

from gateway.main import openapi
from tests.conftest import ROOT


def test_the_http_api_is_the_golden_one():
    assert json.loads((ROOT / "tests/golden/openapi.json").read_text()) == openapi(), "run `make golden`"


def test_every_operation_is_described_and_every_error_has_an_example():
    for path, operations in openapi()["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert answer["content"]["application/problem+json"]["examples"], (method, path, status)


def test_the_catalogue_is_what_the_worker_can_import():
    done = subprocess.run([sys.executable, "-m", "worker_image.catalogue"], capture_output=True, text=True, check=True)
    assert done.stdout == (ROOT / "gateway/jobs/catalogue.json").read_text(), "run `make golden`"
