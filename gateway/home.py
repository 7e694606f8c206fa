"""The gateway's home folder: lock, token, secret, address, and the programs that hold an embedded gateway open."""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

OPENER_YOUTH = 5.0
"""Seconds in which a program that has just made its file may still be about to lock it."""


def drops_in(store: Path) -> Path:
    """Where a store in a folder takes files that processes of this machine drop, each to be named by a PUT."""
    return store / "drops"


class HomeTaken(Exception):
    """Another gateway serves this home."""


class Home:
    """One folder, served by one gateway at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)

    @property
    def store(self) -> Path:
        """The store's folder, where the store is one."""
        return self.path / "store"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the home; the kernel frees it when this process ends, however it ends.

        Raises HomeTaken, naming the address of the gateway that holds it.
        """
        with (self.path / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                url = (self.address() or {}).get("url", "starting, or ending, just now")
                raise HomeTaken(f"another gateway serves {self.path}: {url}") from error
            yield

    def token(self, given: str | None = None) -> str:
        """The owner's token: 256 bits, made once; or the one given, which programs on this machine find here then."""
        if given is not None:
            self._write(self.path / "token", given + "\n")
        return self._kept("token", lambda: secrets.token_urlsafe(32)).strip()

    def secret(self) -> bytes:
        """What signs attempt tokens and URLs: 256 bits, made once, never shown."""
        return bytes.fromhex(self._kept("secret", lambda: secrets.token_hex(32)).strip())

    def name(self) -> str:
        """What the gateway of this home is called among others on its database; made once."""
        return self._kept("name", lambda: secrets.token_hex(8)).strip()

    def _kept(self, name: str, make: Any) -> str:
        path = self.path / name
        if not path.exists():
            self._write(path, make() + "\n")
        return path.read_text()

    @staticmethod
    def _write(path: Path, text: str) -> None:
        """Whole or not at all, and readable by the owner alone."""
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        draft.replace(path)

    def address(self) -> dict[str, Any] | None:
        """What the last gateway wrote of itself: url, pid, embedded. It may have ended since."""
        try:
            found = json.loads((self.path / "gateway.json").read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def announce(self, url: str, *, embedded: bool, ending: bool = False) -> None:
        """Tell programs on this machine where to find the gateway, or that it is about to end."""
        found = {"url": url, "pid": os.getpid(), "embedded": embedded, "ending": ending}
        self._write(self.path / "gateway.json", json.dumps(found) + "\n")

    def openers(self) -> int:
        """How many programs hold the embedded gateway open; files of programs that are gone are removed.

        Each program locks a file of its own in `openers/`; the kernel frees the lock even at SIGKILL.
        """
        count = 0
        for path in (self.path / "openers").glob("*"):
            try:
                with path.open("r+") as file:
                    count += _held(file, path)
            except FileNotFoundError:
                continue
        return count


def _held(file: IO[str], path: Path) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    if time.time() - os.fstat(file.fileno()).st_mtime < OPENER_YOUTH:
        return True
    path.unlink(missing_ok=True)
    return False
