"""The embedded gateway: found in the home folder or started as a child process; nothing of it is imported."""

import fcntl
import json
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import httpx

from flaregate.errors import GatewayUnavailable
from flaregate.settings import child_environment

START_SECONDS = 40.0
END_SECONDS = 15.0
_NEEDED = ("gateway", "fastapi", "uvicorn", "sqlalchemy")
_LINES = 15
_children: "dict[Path, list[subprocess.Popen[bytes]]]" = {}
"""Processes that we started, to be waited for when the last program lets their home go."""


@dataclass(slots=True)
class Opened:
    """A gateway that this process holds open; an embedded one ends with the last process that does."""

    url: str
    token: str
    embedded: bool
    home: Path
    _opener: IO[bytes]

    def close(self) -> None:
        """Let go; if we were the last, wait until the gateway has gone."""
        name = Path(self._opener.name)
        self._opener.close()
        name.unlink(missing_ok=True)
        if self.embedded and not _held_by_others(self.home):
            deadline = time.monotonic() + END_SECONDS
            while _locked(self.home / "lock") and time.monotonic() < deadline and not _held_by_others(self.home):
                time.sleep(0.05)
        if not _locked(self.home / "lock"):
            for child in _children.pop(self.home, ()):
                child.wait(END_SECONDS)


def open_gateway(home: Path, *, start: bool = True, spare: float = 0) -> Opened:
    """The gateway of a home folder; started if there is none and `start` says so.

    One that is started has a head ready, that waits for its first job for `spare` seconds.

    Raises GatewayUnavailable: nothing is installed that could be started, or it died; the message has its last lines.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    opener = _opener(home)
    try:
        found = _found_or_started(home, spare) if start else _staying(home)
        token = (home / "token").read_text().strip()
    except BaseException:  # whatever it is, Ctrl-C too: a file that nobody locks keeps no gateway alive, but litters
        opener.close()
        Path(opener.name).unlink(missing_ok=True)
        raise
    return Opened(found["url"], token, bool(found.get("embedded")), home, opener)


def _staying(home: Path) -> dict[str, Any]:
    """A gateway that somebody keeps with `flaregate up`."""
    found = _live(home)
    if found is None or found.get("embedded"):
        raise GatewayUnavailable(
            "no gateway that stays: run 'flaregate up', or set FLAREGATE_URL and FLAREGATE_TOKEN", retryable=False
        )
    return found


def _found_or_started(home: Path, spare: float) -> dict[str, Any]:
    """What the gateway wrote of itself, found or started.

    Of two processes that start one at once, one gets the home's lock; the other's child ends and the first is used.
    """
    child: subprocess.Popen[bytes] | None = None
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        found = _live(home)
        if found is not None:
            return found
        if not _locked(home / "lock"):
            if child is None:
                child = _start(home, spare)
                _children.setdefault(home, []).append(child)
            elif child.poll() is not None:
                raise GatewayUnavailable(_death(home, child.returncode), retryable=False)
        time.sleep(0.05)
    raise GatewayUnavailable(f"the gateway of {home} does not answer within {START_SECONDS:g} s")


def _opener(home: Path) -> IO[bytes]:
    """A file of our own, locked while we live: the kernel frees it however we end."""
    folder = home / "openers"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = (folder / secrets.token_hex(8)).open("xb")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _held_by_others(home: Path) -> bool:
    return any(_locked(path) for path in (home / "openers").glob("*"))


def _live(home: Path) -> dict[str, Any] | None:
    """What the gateway wrote of itself, if it holds the home, answers, and has not said that it is ending."""
    try:
        found = json.loads((home / "gateway.json").read_text())
        if found.get("ending") or not _locked(home / "lock"):
            return None
        healthy = httpx.get(f"{found['url']}/healthz", timeout=5, trust_env=False).is_success
    except (OSError, ValueError, KeyError, TypeError, httpx.HTTPError):
        return None
    return found if healthy else None


def _start(home: Path, spare: float) -> "subprocess.Popen[bytes]":
    """Start it in a session of its own, so that Ctrl-C at the terminal is ours alone to answer.

    `-P`: a folder called gateway where the user works is not the gateway.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise GatewayUnavailable(
            "there is no gateway here: pip install 'flaregate[local]' starts one on this machine, "
            "or set FLAREGATE_URL and FLAREGATE_TOKEN",
            retryable=False,
        )
    environment = child_environment(
        FLAREGATE_EMBEDDED="true", FLAREGATE_HOME=str(home), FLAREGATE_PORT="0", FLAREGATE_SPARE=str(spare)
    )
    with (home / "gateway.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "gateway"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _death(home: Path, code: int | None) -> str:
    try:
        lines = (home / "gateway.log").read_text(errors="replace").splitlines()[-_LINES:]
    except OSError:
        lines = []
    return "\n".join([f"the gateway ended with code {code} before it was ready; its last lines:", *lines])
