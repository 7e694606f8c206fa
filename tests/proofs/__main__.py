"""`python -m tests.proofs FOLDER` proves the Kubernetes launcher with the programs in a folder, and records what came out."""

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.harness import RESULTS, machine

PROOF = Path(__file__).with_name("kubernetes.py")
ABOUT = (
    "The Kubernetes launcher on a real control plane, as docs/adr/0020-kubernetes.md says: the tests of "
    "tests/proofs/kubernetes.py with their seconds, and the phases of a job on a head and two workers in containers."
)


class Proof:
    """Gives the tests their programs and collects what they tell."""

    def __init__(self, binaries):
        self.binaries = binaries
        self.told = {}
        self.tests = {}

    def pytest_configure(self, config):
        config.proof = self

    def pytest_runtest_logreport(self, report):
        name = report.nodeid.partition("::")[2]
        if report.when == "call" or report.failed:
            self.tests[name] = {"outcome": report.outcome, "seconds": round(report.duration, 2)}


def main():
    """Run the tests; the record is written if all have passed and none was left out."""
    asked = argparse.ArgumentParser(prog="python -m tests.proofs", description=main.__doc__)
    asked.add_argument("folder", type=Path, help="with etcd, kube-apiserver, kube-controller-manager and kubectl")
    asked.add_argument("pytest", nargs="*", help="more for pytest, after --; nothing is recorded then")
    given = asked.parse_args()
    proof, begun = Proof(given.folder.resolve()), time.monotonic()
    status = pytest.main([str(PROOF), "-p", "no:cacheprovider", *given.pytest], plugins=[proof])
    if status == pytest.ExitCode.OK and not given.pytest:
        document = {
            "benchmark": "kubernetes",
            "about": ABOUT,
            "measured": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "wall_seconds": round(time.monotonic() - begun, 1),
            **proof.told,
            "tests": proof.tests,
        }
        (RESULTS / "kubernetes.json").write_text(json.dumps(document, indent=1) + "\n")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
