"""A PostgreSQL of the test's own, from Debian's package, on a free port of loopback; ended by its process id."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import psycopg

INSTALL = "apt-get install -y --no-install-recommends postgresql"
USER = "gateways"
PASSWORD = "a-password"


def programs():
    """The folder of the newest server that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("postgres")
    if not found and on_path is None:
        raise FileNotFoundError(f"these tests need PostgreSQL's server; as root: {INSTALL}")
    return found[-1].parent if found else Path(on_path).parent


class Postgres:
    """A server; each call of `database` gives the URL of a new, empty database."""

    def __init__(self, folder, durable):
        self.folder = folder
        self.port = 0
        self.process = None
        self._durable = durable
        self._user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
        if self._user:
            shutil.chown(folder, self._user)
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run(
            "initdb", "-D", str(folder / "data"), "-U", USER, "--auth=scram-sha-256", f"--pwfile={password}",
            "--encoding=UTF8", "--no-sync",
        )  # fmt: skip

    def _run(self, program, *given):
        done = subprocess.run(
            [programs() / program, *given],
            check=False,
            user=self._user,
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr

    def start(self):
        if not self.port:  # the same again after a restart
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "fsync": "on" if self._durable else "off",
        }
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [programs() / "postgres", "-D", self.folder / "data", *(f"--{k}={v}" for k, v in options.items())],
                user=self._user, cwd=self.folder, stdout=log, stderr=log,
            )  # fmt: skip
        end = time.monotonic() + 30
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < end, "it does not answer"
            time.sleep(0.02)

    def _answers(self):
        try:
            with psycopg.connect(self.url("postgres"), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def stop(self):
        """End it at once, as a restart does: connections are cut, what is committed stays."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(20)

    def url(self, name):
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{name}"

    def database(self):
        name = f"d{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement):
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def running(*, durable=False):
    """A server in a folder of its own; without `durable` it never waits for the disk."""
    folder = Path(tempfile.mkdtemp(prefix="flaregate-postgres-"))
    try:
        server = Postgres(folder, durable)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
