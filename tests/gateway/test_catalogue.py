"""The catalogue of signatures is what the worker's environment has."""

import subprocess
import sys

from tests.conftest import ROOT


def test_the_catalogue_is_what_the_worker_can_import():
    done = subprocess.run([sys.executable, "-m", "worker_image.catalogue"], capture_output=True, text=True, check=True)
    assert done.stdout == (ROOT / "gateway/jobs/catalogue.json").read_text(), "run `make golden`"
