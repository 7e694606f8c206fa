"""Finding and starting the embedded gateway: against a stand-in process that keeps the same rules of the home folder."""

import os
import subprocess
import sys
import time

import pytest

import flaregate as fg
from flaregate import embedded
from flaregate.client import warm_seconds

STAND_IN = """
import fcntl, json, os, sys, threading, time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

home = Path(os.environ["FLAREGATE_HOME"])
if (home / "broken").exists():
    sys.exit("the stand-in is broken on purpose")
lock = (home / "lock").open("a")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit("another gateway serves this home")
with (home / "starts").open("a") as file:
    file.write(f"{os.getpid()} {os.environ['FLAREGATE_EMBEDDED']} {os.environ.get('FLAREGATE_TOKEN')}\\n")

class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *words):
        pass

time.sleep(0.2)
server = HTTPServer(("127.0.0.1", 0), Healthy)
(home / "token").write_text("secret-of-home")
url = f"http://127.0.0.1:{server.server_port}"
whole = home / "gateway.json.new"
whole.write_text(json.dumps({"url": url, "pid": os.getpid(), "embedded": os.environ["FLAREGATE_EMBEDDED"] == "true"}))
whole.replace(home / "gateway.json")
threading.Thread(target=server.serve_forever, daemon=True).start()

def held(path):
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False

while any(held(path) for path in (home / "openers").glob("*")):
    time.sleep(0.05)
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    package = tmp_path / "stand_in" / "gateway"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setenv("FLAREGATE_TOKEN", "of another gateway")
    monkeypatch.delenv("FLAREGATE_URL", raising=False)
    monkeypatch.setenv("FLAREGATE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def starts(home):
    return [line.split() for line in (home / "starts").read_text().splitlines()]


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_client_without_an_address_starts_a_gateway_and_leaves_none(home):
    with fg.Client() as client:
        assert client.embedded
        assert client.url.startswith("http://127.0.0.1:")
        assert client.link._token == "secret-of-home"
        ((pid, is_embedded, token),) = starts(home)
        assert (is_embedded, token) == ("true", "None")
        assert not gone(int(pid))
    assert gone(int(pid))
    assert home.stat().st_mode & 0o777 == 0o700
    assert not list((home / "openers").iterdir())


def test_two_clients_share_one_gateway_that_ends_with_the_last(home):
    first = fg.Client()
    second = fg.Client()
    assert first.url == second.url
    ((pid, _, _),) = starts(home)
    first.close()
    assert not gone(int(pid))
    second.close()
    assert not embedded._locked(home / "lock")
    second.close()


def test_processes_that_start_at_once_share_one_gateway(home):
    script = "import flaregate as fg\nwith fg.Client() as client: print(client.url); input()"
    programs = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    try:
        urls = {program.stdout.readline().strip() for program in programs}
        assert len(urls) == 1
        assert "http" in urls.pop()
        assert len(starts(home)) == 1
    finally:
        for program in programs:
            program.communicate("\n", timeout=20)
    assert [program.returncode for program in programs] == [0, 0, 0]
    assert not embedded._locked(home / "lock")


def test_a_gateway_that_dies_is_reported_with_its_last_lines(home):
    home.mkdir()
    (home / "broken").touch()
    with pytest.raises(fg.GatewayUnavailable, match=r"code 1(.|\n)*broken on purpose") as caught:
        fg.Client()
    assert not caught.value.retryable
    assert not list((home / "openers").iterdir())


def test_an_address_of_a_gateway_that_is_gone_is_not_believed(home):
    home.mkdir()
    (home / "gateway.json").write_text('{"url": "http://127.0.0.1:9", "pid": 1, "embedded": true}')
    with fg.Client() as client:
        assert client.url != "http://127.0.0.1:9"


def test_without_starting_one_only_a_gateway_that_stays_is_taken(home):
    with pytest.raises(fg.GatewayUnavailable, match="flaregate up"):
        fg.Client(embedded=False)
    with fg.Client(), pytest.raises(fg.GatewayUnavailable, match="flaregate up"):
        fg.Client(embedded=False)
    environment = {**os.environ, "FLAREGATE_EMBEDDED": "false"}
    (home / "openers").mkdir(exist_ok=True)
    holder = embedded._opener(home)
    with subprocess.Popen([sys.executable, "-P", "-m", "gateway"], env=environment) as kept:
        deadline = time.monotonic() + 10
        while embedded._live(home) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        with fg.Client(embedded=False) as client:
            assert not client.embedded
        assert kept.poll() is None
        holder.close()


def test_a_missing_extra_is_named_with_the_command_that_installs_it(home, monkeypatch):
    monkeypatch.setattr(embedded, "_NEEDED", ("not_there_at_all",))
    with pytest.raises(fg.GatewayUnavailable, match=r"pip install 'flaregate\[local\]'.*\n?.*FLAREGATE_URL"):
        fg.Client()


async def test_the_awaiting_client_opens_it_too(home):
    async with fg.AsyncClient() as client:
        assert client.url.startswith("http://127.0.0.1:")
        ((pid, _, _),) = starts(home)
    assert gone(int(pid))


def test_an_address_wins_over_the_home(home, monkeypatch):
    monkeypatch.setenv("FLAREGATE_URL", "http://gateway.test/")
    with fg.Client() as client:
        assert (client.url, client.embedded) == ("http://gateway.test", False)
    with pytest.raises(fg.Refused, match="no address"):
        fg.Client("ftp://x")


@pytest.mark.parametrize(
    ("given", "embedded", "seconds"),
    [(None, True, 300), (None, False, 0), (0, True, 0), (20, True, 20), (20, False, 20)],
)
def test_heads_wait_where_that_costs_nothing_unless_it_is_said(given, embedded, seconds):
    assert warm_seconds(given, embedded=embedded) == seconds
