"""The examples run as they are, with the embedded gateway and real Ray."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

FLAREGATE = str(Path(sys.executable).parent / "flaregate")


@pytest.fixture
def call(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLAREGATE_")}
    environment = {**kept, "FLAREGATE_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}

    def run(*command):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=150, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_the_sweep_leaves_a_table_and_a_model_that_predicts(call):
    shown = call(sys.executable, str(ROOT / "examples/sweep.py"))
    head, *rows = [line.split() for line in shown.splitlines() if not line.startswith(("best", "it"))]
    assert head == ["task", "lr", "accuracy_mean", "accuracy_std", "n", "failed", "best"]
    assert len(rows) == 6
    assert all(row[5:7] == ["3", "0"] for row in rows)
    assert "% of all rows as they are" in shown


def test_the_map_is_planned_and_run(call):
    assert "blocks      4" in call(FLAREGATE, "plan", str(ROOT / "examples/map.json"))
    shown = call(FLAREGATE, "run", str(ROOT / "examples/map.json"))
    assert [f"candidate {number}: softmax" in shown for number in range(4)] == [True] * 4
    assert shown.splitlines()[-1] == "succeeded"
