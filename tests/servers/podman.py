"""Real containers: Podman's service of the Docker Engine API, the base image, and the images that the Dockerfiles make.

No image can be pulled where there is no internet; then the base is made from Debian's packages under its official name.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import requests
from docker.errors import APIError

ROOT = Path(__file__).parents[2]
BASE = "docker.io/library/python:3.11-slim-bookworm"
WORKER, GATEWAY, BARE = (
    "localhost/flaregate-worker:test",
    "localhost/flaregate-gateway:test",
    "localhost/flaregate-bare:test",
)
CONFIGURATION = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
CERTIFICATES = Path("/etc/ssl/certs")
_PIP = (Path("/etc/pip.conf"),)


def refusal(status, words):
    """What docker-py raises when the engine answers so."""
    response = requests.Response()
    response.status_code = status
    return APIError(f"{status} Server Error", response, words)


class Podman:
    """The command and the service, with a configuration that needs no systemd."""

    def __init__(self, folder):
        self.folder = folder
        configuration = folder / "containers.conf"
        configuration.write_text(CONFIGURATION)
        self.environment = {**os.environ, "CONTAINERS_CONF": str(configuration)}
        self.socket = folder / "podman.sock"

    def run(self, *arguments, check=True, **options):
        """`podman …`; gives what it printed. Not in the repository: conmon leaves a file where a container starves."""
        options.setdefault("cwd", self.folder)
        ran = subprocess.run(
            ["podman", *arguments], env=self.environment, text=True, capture_output=True, check=False, **options
        )
        assert not check or ran.returncode == 0, (
            f"podman {' '.join(arguments)}: {ran.stdout[-2000:]}{ran.stderr[-4000:]}"
        )
        return ran.stdout.strip()

    @contextlib.contextmanager
    def service(self):
        """The Docker Engine API at a socket in the folder."""
        command = ["podman", "system", "service", "--time=0", f"unix://{self.socket}"]
        with (self.folder / "service.log").open("wb") as log:
            process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, cwd=self.folder)
        try:
            end = time.monotonic() + 20
            while not self.socket.exists():
                assert process.poll() is None, (self.folder / "service.log").read_text()
                assert time.monotonic() < end
                time.sleep(0.02)
            yield f"unix://{self.socket}"
        finally:
            process.terminate()
            process.wait(20)

    def has(self, image):
        return subprocess.run(["podman", "image", "exists", image], env=self.environment, check=False).returncode == 0

    def base(self):
        """The official base image, or one of the same name from Debian's packages."""
        if self.has(BASE):
            return
        pulled = subprocess.run(["podman", "pull", "-q", BASE], env=self.environment, capture_output=True, check=False)
        if pulled.returncode == 0:
            return
        archive = self.folder / "base.tar"
        packages = "python3,python3-venv,python3-pip,ca-certificates"
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", "bookworm", str(archive)],
            check=True,
        )
        self.run("import", "--quiet", "--change", 'CMD ["python3"]', str(archive), BASE)
        archive.unlink()

    def build(self, dockerfile, tag, context=ROOT, **arguments):
        """Build an image from a Dockerfile of the repository as users do, with this machine's pip and certificates."""
        self.base()
        given = dict(arguments)
        mounts = [path for path in _PIP if path.exists()]
        if CERTIFICATES.is_dir():
            mounts.append(CERTIFICATES)
            given["PIP_CERT"] = str(CERTIFICATES / "ca-certificates.crt")
        options = [f"--volume={path}:{path}:ro" for path in mounts]
        options += [f"--build-arg={name}={value}" for name, value in given.items()]
        # not the default isolation: it wants cgroups that a machine without systemd does not delegate
        self.run(
            "build", "--isolation=chroot", "--network=host", *options, "-f", dockerfile, "-t", tag, ".", cwd=context
        )

    def worker(self):
        """The worker's image, labelled with what its lock installs."""
        lock = [sys.executable, "-m", "worker_image.environment", "requirements/worker.lock"]
        found = subprocess.run(lock, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
        self.build("Dockerfile.worker", WORKER, ENVIRONMENT=found)
        return WORKER

    def gateway(self):
        """The gateway's image."""
        self.build("Dockerfile.gateway", GATEWAY)
        return GATEWAY

    def bare(self):
        """Nothing but Python, for programs of known behaviour; its label names versions like the worker's."""
        self.base()
        versions = dict.fromkeys(("cloudpickle", "ray", "scikit-learn", "numpy"), "1.0") | {"python": "3.11"}
        text = f"FROM {BASE}\nLABEL io.flaregate.environment='{json.dumps(versions)}'\n"
        self.run("build", "--isolation=chroot", "-t", BARE, "-f", "-", ".", input=text, cwd=self.folder)
        return BARE

    def remove(self, label):
        """Remove every container and network that bears a label."""
        for name in self.run("ps", "--all", "--quiet", "--filter", f"label={label}").split():
            self.run("rm", "--force", "--time=0", name, check=False)
        for name in self.run("network", "ls", "--quiet", "--filter", f"label={label}").split():
            self.run("network", "rm", "--force", name, check=False)
