"""The command line as a new user meets it, with the embedded gateway."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT, until

FLAREGATE = str(Path(sys.executable).parent / "flaregate")
SMALL = {
    "pipeline": {
        "name": "small",
        "nodes": [{"name": "tree", "kind": "estimator", "import": "sklearn.tree:DecisionTreeClassifier"}],
    },
    "action": "search",
    "inputs": {
        "X": {"dataset": "sklearn.datasets:load_iris", "part": "data"},
        "y": {"dataset": "sklearn.datasets:load_iris", "part": "target"},
    },
    "axes": [{"node": "tree", "param": "max_depth", "values": [1, 3]}],
    "limits": {"timeout": 120},
}


@pytest.fixture
def environment(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLAREGATE_")}
    return {**kept, "FLAREGATE_HOME": str(tmp_path / "home")}


@pytest.fixture
def flaregate(tmp_path, environment):
    def call(*words, **options):
        return subprocess.run(
            [FLAREGATE, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
            **options,
        )

    return call


def left(home):
    """Processes that still serve or work for a home."""
    found = []
    for process in psutil.process_iter():
        try:
            given = process.environ()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if given.get("FLAREGATE_HOME") == home or str(home) in given.get("FLAREGATE_RUN", ""):
            found.append(process.cmdline())
    return found


def test_run_shows_the_whole_way_and_leaves_nothing(flaregate, environment, tmp_path):
    done = flaregate("run", str(ROOT / "examples/digits.json"), "--save", "best.fitted.zip")
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("candidate 19", "best ", "queued", "Ray ready", "first outcome", "vCPU-seconds", "GiB-seconds"):
        assert words in done.stdout
    assert "succeeded" in done.stdout
    assert "best.fitted.zip" in done.stderr
    assert (tmp_path / "best.fitted.zip").stat().st_size > 1000
    assert until(lambda: not left(environment["FLAREGATE_HOME"]), 10)


def test_machines_read_ndjson_and_json(flaregate):
    done = flaregate("run", "-", "--output", "ndjson", input=json.dumps(SMALL))
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "end"
    job = flaregate("list", "--output", "json")
    assert json.loads(job.stdout)["state"] == "succeeded"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not"),
        ("[]", "is not a job"),
        (json.dumps({**SMALL, "axes": [{"node": "tre", "param": "a", "values": [1]}]}), "did you mean 'tree'?"),
        (json.dumps({**SMALL, "limits": {"timeout": -1}}), "/limits/timeout"),
        (json.dumps({**SMALL, "limits": {"max_cost": "1.00 USD"}}), "price"),
    ],
)
def test_nonsense_is_refused_with_exit_code_2(flaregate, content, words):
    done = flaregate("run", "-", input=content)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_submit_needs_a_gateway_that_stays(flaregate, tmp_path):
    (tmp_path / "job.json").write_text(json.dumps(SMALL))
    done = flaregate("submit", "job.json")
    assert done.returncode == 5
    assert "flaregate up" in done.stderr


def test_up_serves_submit_wait_status_logs_results_list_and_cancel(flaregate, environment, tmp_path):
    (tmp_path / "job.json").write_text(json.dumps(SMALL))
    with subprocess.Popen(
        [FLAREGATE, "up"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as up:
        try:
            assert "ready on http://127.0.0.1:" in up.stdout.readline()
            job = flaregate("submit", "job.json").stdout.strip()
            assert job.startswith("job-")
            assert flaregate("wait", job, "--timeout", "0").returncode == 75
            assert flaregate("wait", job).returncode == 0
            assert "succeeded" in flaregate("status", job).stdout
            assert len(flaregate("results", job).stdout.splitlines()) == 2
            assert job in flaregate("list").stdout
            assert flaregate("logs", job).returncode == 0
            assert "succeeded" in flaregate("cancel", job).stdout
            assert "best" in flaregate("artifacts", job).stdout
            missing = flaregate("status", "job-none")
            assert (missing.returncode, "job-none" in missing.stderr) == (2, True)
        finally:
            up.send_signal(signal.SIGINT)
            assert up.wait(20) == 0


def test_ctrl_c_cancels_and_leaves_nothing(environment, tmp_path):
    long = {**SMALL, "axes": [{"node": "tree", "param": "max_depth", "values": list(range(1, 20_000))}]}
    (tmp_path / "job.json").write_text(json.dumps(long))
    with subprocess.Popen(
        [FLAREGATE, "run", "job.json"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as run:
        run.stdout.readline()
        time.sleep(1.5)
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=60)
    assert run.returncode == 3, errors
    assert until(lambda: not left(environment["FLAREGATE_HOME"]), 15)
