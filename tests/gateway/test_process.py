"""The gateway as a process: its home, its one line, its ends."""

import fcntl
import json
import os
import signal
import statistics
import subprocess
import sys
import time

import httpx
import pytest

from gateway.home import Home, HomeTaken


def start(home, **settings):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLAREGATE_")}
    environment |= {"FLAREGATE_HOME": str(home)} | {f"FLAREGATE_{name.upper()}": str(v) for name, v in settings.items()}
    return subprocess.Popen(
        [sys.executable, "-m", "gateway"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def started():
    running = []

    def call(home, **settings):
        process = start(home, **settings)
        running.append(process)
        line = process.stdout.readline()
        assert line.startswith("flaregate gateway ready on http://127.0.0.1:"), process.stderr.read()
        return process, line.split()[-1]

    yield call
    for process in running:
        process.kill()
        process.communicate()


def test_one_line_a_private_home_and_a_clean_end(started, tmp_path):
    home = tmp_path / "home"
    process, url = started(home)
    assert home.stat().st_mode & 0o777 == 0o700
    for name in ("token", "secret", "gateway.json"):
        assert (home / name).stat().st_mode & 0o777 == 0o600
    assert len((home / "token").read_text().strip()) >= 43
    found = json.loads((home / "gateway.json").read_text())
    assert (found["url"], found["pid"], found["embedded"]) == (url, process.pid, False)
    second = start(home)
    assert second.wait(10) == 2
    assert url in second.stderr.read()
    second.communicate()
    token = (home / "token").read_text()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (0, "")
    again, url_again = started(home)
    assert url_again == url, "containers find a restarted gateway where the last one was"
    assert (home / "token").read_text() == token
    again.send_signal(signal.SIGINT)
    assert again.wait(10) == 0


def test_an_embedded_gateway_lives_as_long_as_one_of_its_programs(started, tmp_path):
    home = tmp_path / "home"
    (home / "openers").mkdir(parents=True)
    holds = []
    for name in ("one", "two"):
        holds.append((home / "openers" / name).open("x"))
        fcntl.flock(holds[-1], fcntl.LOCK_EX)
        os.utime(home / "openers" / name, (1, 1))
    process, _ = started(home, embedded="true", openers_interval="0.05")
    holds[0].close()
    time.sleep(0.5)
    assert process.poll() is None
    assert not (home / "openers" / "one").exists(), "what a killed program left is removed"
    holds[1].close()
    assert process.wait(10) == 0


def test_an_embedded_gateway_that_nobody_opens_ends(started, tmp_path):
    process, _ = started(tmp_path / "home", embedded="true", openers_wait="0.3", openers_interval="0.05")
    assert process.wait(10) == 0


def test_a_program_that_has_just_made_its_file_counts(tmp_path):
    home = Home(tmp_path / "home")
    (home.path / "openers").mkdir()
    (home.path / "openers" / "new").touch()
    assert home.openers() == 1
    os.utime(home.path / "openers" / "new", (1, 1))
    assert home.openers() == 0


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "no URL"),
        ("mysql://u:secret@db/x", "use postgresql://"),
        ("postgresql://u:secret@127.0.0.1:1/x", "Connection refused"),
    ],
)
def test_a_database_that_cannot_be_used_ends_the_start_with_one_line(tmp_path, url, says):
    process = start(tmp_path / "home", database_url=url)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert len(errors.splitlines()) == 1
    assert says in errors
    assert "secret" not in errors


def test_replicas_share_a_token_and_a_secret(started, tmp_path):
    shared = {"token": "t" * 40, "secret": "s" * 40}
    for name in ("a", "b"):
        _, url = started(tmp_path / name, **shared)
        answer = httpx.get(f"{url}/v1/me", headers={"Authorization": f"Bearer {shared['token']}"}, trust_env=False)
        assert answer.status_code == 200
        assert (tmp_path / name / "token").read_text().strip() == shared["token"]
        assert not (tmp_path / name / "secret").exists()
    names = {(tmp_path / name / "name").read_text() for name in ("a", "b")}
    assert len(names) == 2
    process = start(tmp_path / "c", secret="too short")
    assert process.wait(20) == 2
    assert "too short" not in process.communicate()[1]


def test_a_home_has_one_gateway(tmp_path):
    home = Home(tmp_path / "home")
    with home.locked():
        home.announce("http://127.0.0.1:1", embedded=True)
        with pytest.raises(HomeTaken, match=r"http://127\.0\.0\.1:1"), Home(home.path).locked():
            pass
    with home.locked():
        pass


def test_the_process_has_neither_the_sdk_nor_what_unpickles_or_runs(tmp_path):
    code = (
        "import sys, gateway.main as m; from gateway.settings import Settings; from gateway.home import Home;"
        "from pathlib import Path;"
        f"home = Path({str(tmp_path / 'home')!r}); s = Settings(home=home);"
        "from gateway.platforms import launcher; g = m.assemble(s, Home(home), 'http://127.0.0.1:1', launcher(s));"
        "from gateway.jobs.signing import catalogue; catalogue(); g.repository.close();"
        "print([n for n in ('flaregate', 'cloudpickle', 'joblib', 'ray', 'sklearn', 'numpy', 'boto3', 'docker') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_answers_on_a_kept_connection_are_not_held_back(started, tmp_path):
    _, url = started(tmp_path / "home")
    with httpx.Client(base_url=url, trust_env=False) as client:
        seconds = [client.get("/healthz").elapsed.total_seconds() for _ in range(30)]
    assert statistics.median(seconds) < 0.03, "small writes wait for the other side's delayed acknowledgement"
