"""What an instance really is: a process of this machine, or a container of Podman. It is started, looked at, ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class Running(Protocol):
    """A started instance."""

    def ended(self) -> int | None:
        """Its exit code once it has ended; minus the signal's number where a signal ended it."""
        ...

    def end(self, *, force: bool) -> None:
        """SIGTERM, or SIGKILL to all of it."""
        ...


class Starts(Protocol):
    """How instances are started."""

    def start(
        self, name: str, environment: Mapping[str, str], command: Sequence[str], size: tuple[float, int]
    ) -> Running:
        """Start one; `command` is empty where the image's own is meant."""
        ...


@dataclass
class _Process:
    process: "subprocess.Popen[bytes]"

    def ended(self) -> int | None:
        return self.process.poll()

    def end(self, *, force: bool) -> None:
        try:
            if force:
                os.killpg(self.process.pid, signal.SIGKILL)
            elif self.process.poll() is None:
                self.process.terminate()
        except ProcessLookupError:
            pass


@dataclass
class Processes:
    """Instances as processes, each with a session and a log of its own."""

    folder: Path
    command: Sequence[str] = (sys.executable, "-m", "worker_image")
    inherited: Mapping[str, str] = field(default_factory=dict)

    def start(
        self, name: str, environment: Mapping[str, str], command: Sequence[str], size: tuple[float, int]
    ) -> Running:
        temp = self.folder / name
        temp.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*(command or self.command)],
                cwd=temp,
                env={**self.inherited, "HOSTNAME": name, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return _Process(process)


@dataclass
class _Container:
    name: str
    environment: Mapping[str, str]

    def ended(self) -> int | None:
        told = _podman(
            self.environment, "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", self.name
        ).split()
        if not told:
            return 137  # it is gone
        return int(told[1]) if told[0] in ("exited", "stopped", "dead") else None

    def end(self, *, force: bool) -> None:
        if force:
            _podman(self.environment, "rm", "--force", "--time=0", self.name)
        else:
            _podman(self.environment, "kill", "--signal=TERM", self.name)


@dataclass
class Containers:
    """Instances as containers of an image on a network; no privileges and limits as Code Engine sets them."""

    image: str
    network: str
    environment: Mapping[str, str]
    """Of the podman command."""
    label: str = "io.flaregate.simulator=1"

    def start(
        self, name: str, environment: Mapping[str, str], command: Sequence[str], size: tuple[float, int]
    ) -> Running:
        cpus, memory = size
        variables = [f"--env={key}={value}" for key, value in environment.items()]
        entrypoint = [f"--entrypoint={command[0]}"] if command else []
        limits = [f"--cpus={cpus}", f"--memory={memory}", "--pids-limit=4096", "--cap-drop=all"]
        _podman(
            self.environment,
            *("run", "--detach", "--init", f"--name={name}", f"--hostname={name[:63]}", f"--label={self.label}"),
            *(f"--network={self.network}", *limits, *variables, *entrypoint, self.image, *command[1:]),
        )
        return _Container(name, self.environment)


def _podman(environment: Mapping[str, str], *arguments: str) -> str:
    ran = subprocess.run(["podman", *arguments], env=dict(environment), capture_output=True, text=True, check=False)
    return ran.stdout.strip()
