"""What an instance really is: a process of this machine, or a container of Podman. It is started, looked at, ended."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from infra.code_engine.simulator.memory import Tree, Watch

log = logging.getLogger(__name__)
_NOT_STARTED = 125
"""The exit code of `podman run` where there was no container."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an instance ended."""

    code: int
    """Minus the signal's number where a signal ended it."""
    starved: bool = False
    """Whether it was ended for want of memory."""


class Running(Protocol):
    """A started instance. No method waits for its end."""

    def ended(self) -> Ending | None:
        """None while it runs."""
        ...

    def end(self, *, force: bool) -> None:
        """SIGTERM to its first process, or SIGKILL to all of it; what is kept of it is removed then."""
        ...


class Starts(Protocol):
    """How instances are started."""

    def start(
        self, name: str, environment: Mapping[str, str], command: Sequence[str], size: tuple[float, int]
    ) -> Running:
        """Start one; `command` is empty where the image's own is meant. Raises OSError."""
        ...

    def close(self) -> None:
        """Nothing is started any more."""
        ...


@dataclass
class _Process:
    process: "subprocess.Popen[bytes]"
    tree: Tree
    watch: Watch

    def ended(self) -> Ending | None:
        """As in a container, nothing outlives the first process."""
        if self.process.returncode is None:
            if os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            self.watch.remove(self.tree)
            self.tree.kill()
        return Ending(self.process.wait(), self.tree.starved)

    def end(self, *, force: bool) -> None:
        if self.process.returncode is not None:
            return
        if force:
            self.tree.kill()
        else:
            self.process.terminate()


@dataclass
class Processes:
    """Instances as processes, each with a session and a log of its own, and no more memory than it has asked for."""

    folder: Path
    command: Sequence[str] = (sys.executable, "-m", "worker_image")
    inherited: Mapping[str, str] = field(default_factory=dict)
    watch: Watch = field(default_factory=Watch)

    def start(
        self, name: str, environment: Mapping[str, str], command: Sequence[str], size: tuple[float, int]
    ) -> Running:
        temp = self.folder / name
        temp.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as output:
            process = subprocess.Popen(
                [*(command or self.command)],
                cwd=temp,
                env={**self.inherited, **environment, "HOSTNAME": name},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return _Process(process, self.watch.add(process.pid, size[1]), self.watch)

    def close(self) -> None:
        self.watch.close()


@dataclass
class _Container:
    name: str
    process: "subprocess.Popen[bytes]"
    folder: Path
    environment: Mapping[str, str]
    ending: Ending | None = None

    def ended(self) -> Ending | None:
        code = self.process.poll()
        if code is None or self.ending is not None:
            return self.ending
        if code == _NOT_STARTED:
            log.error("podman did not start %s; see %s.log", self.name, self.folder)
        self.ending = Ending(code, self._starved())
        return self.ending

    def _starved(self) -> bool:
        """Podman's word; without systemd it may miss what conmon has told by a file where it runs."""
        told = self._podman("inspect", "--format", "{{json .State.OOMKilled}}", self.name)
        return (self.folder / "oom").exists() or (bool(told) and bool(json.loads(told)))

    def end(self, *, force: bool) -> None:
        if force:
            self._podman("rm", "--force", "--ignore", "--time=0", self.name)
        else:
            self.process.terminate()  # podman hands it on

    def _podman(self, *arguments: str) -> str:
        command = ["podman", *arguments]
        ran = subprocess.run(command, env=dict(self.environment), capture_output=True, text=True, check=False)
        if ran.returncode:
            log.error("%s: %s", " ".join(command), ran.stderr.strip())
        return ran.stdout.strip()


@dataclass
class Containers:
    """Instances as containers of an image on a network; no privileges and limits as Code Engine sets them."""

    image: str
    network: str
    folder: Path
    environment: Mapping[str, str]
    """Of the podman command."""
    label: str = "io.flaregate.simulator=1"

    def start(
        self, name: str, environment: Mapping[str, str], command: Sequence[str], size: tuple[float, int]
    ) -> Running:
        cpus, memory = size
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        variables = [f"--env={key}={value}" for key, value in environment.items()]
        entrypoint = [f"--entrypoint={command[0]}"] if command else []
        limits = [f"--cpus={cpus}", f"--memory={memory}", f"--memory-swap={memory}", "--pids-limit=4096"]
        rights = ["--cap-drop=all", "--security-opt=no-new-privileges", "--pull=missing", f"--label={self.label}"]
        with (self.folder / f"{name}.log").open("ab") as output:
            process = subprocess.Popen(
                ["podman", "run", "--init", f"--name={name}", f"--hostname={name[:63]}", f"--network={self.network}",
                 *limits, *rights, *variables, *entrypoint, self.image, *command[1:]],
                cwd=folder,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )  # fmt: skip
        return _Container(name, process, folder, self.environment)

    def close(self) -> None:
        """Each container is removed as it ends."""
