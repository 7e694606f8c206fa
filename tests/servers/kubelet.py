"""A node for a Kubernetes: it binds the pods of one namespace to itself and runs them as processes or as containers.

It knows the API alone, so it serves a real API server as well as the one in tests.servers.kubernetes.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import httpx2
import lightkube
from lightkube.core.exceptions import ApiError
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Pod, PodStatus
from lightkube.types import PatchType
from lightkube.utils.quantity import parse_quantity

NAMESPACE = "flaregate"
WORKER = [sys.executable, "-m", "worker_image"]
"""What the image runs."""
INHERITED = ("PATH", "HOME", "PYTHONPATH", "VIRTUAL_ENV")
ENDED = ("Succeeded", "Failed")


def now(later=0):
    return (datetime.now(UTC) + timedelta(seconds=later)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Processes:
    """Pods as processes of this machine."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def lacks(self, name, image):
        """Whether the image of a pod cannot be pulled."""
        return image.startswith("missing")

    def start(self, name, pod):
        (container,) = pod.containers
        environment = {key: os.environ[key] for key in INHERITED if key in os.environ}
        environment |= {one.name: one.value for one in container.env or ()} | {"TMPDIR": str(self.folder)}
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                container.command or WORKER,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name, process):
        _signal(process, signal.SIGKILL)


class Containers:
    """Pods as containers of Podman on one network."""

    def lacks(self, name, image):
        return image.startswith("missing")

    def __init__(self, podman, network, label, folder):
        self.podman, self.network, self.label, self.folder = podman, network, label, folder
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, name, pod):
        (container,) = pod.containers
        memory = next(one.emptyDir.sizeLimit for one in pod.volumes if one.emptyDir.medium == "Memory")
        limits, context = container.resources.limits, container.securityContext
        options = [f"--env={one.name}={one.value}" for one in container.env or ()]
        sizes = {"cpus": limits["cpu"], "memory": limits["memory"], "shm-size": memory}
        options += [f"--{name}={parse_quantity(size):f}" for name, size in sizes.items()]  # Podman's G is a GiB
        options += [f"--cap-drop={name}" for name in context.capabilities.drop]
        options += ["--read-only"] * context.readOnlyRootFilesystem
        options += ["--security-opt=no-new-privileges"] * (not context.allowPrivilegeEscalation)
        entrypoint = [f"--entrypoint={json.dumps(container.command)}"] if container.command else []
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                ["podman", "run", "--rm", f"--name={name}", f"--hostname={name}", f"--network={self.network}",
                 f"--label={self.label}", "--init", "--tmpfs=/tmp:rw,exec,mode=1777",
                 f"--user={pod.securityContext.runAsUser}", *options, *entrypoint, container.image],
                env=self.podman.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.folder, start_new_session=True,
            )  # fmt: skip

    def kill(self, name, process):
        self.podman.run("rm", "--force", "--time=0", name, check=False)


@contextlib.contextmanager
def at_work(configuration, *kinds):
    """What is made of each kind with one client of the API does its step again and again, in one thread, until the end."""
    config = lightkube.KubeConfig.from_file(configuration)
    api = lightkube.Client(config.get(), namespace=NAMESPACE, timeout=httpx2.Timeout(10))
    api._client._client.headers["User-Agent"] = "node"
    for kind in (Job, Pod):  # before there is a second thread: msgspec crashes where two resolve one class at once
        list(api.list(kind))
    parts, ending, broken = [kind(api) for kind in kinds], threading.Event(), []

    def work():
        while not ending.wait(0.05):
            try:
                for part in parts:
                    part.step()
            except (ApiError, httpx2.TransportError):
                continue  # something has gone meanwhile, or the server has
            except Exception as error:  # noqa: BLE001 - told at the end
                broken.append(error)
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
        for part in parts:
            part.close()
        api.close()
    assert not broken, broken


class Node:
    """Runs the pods of one namespace."""

    def __init__(self, api, starts):
        self._api, self._starts = api, starts
        self._running = {}
        self._asked = {}
        self._started = {}

    def step(self):
        for pod in self._api.list(Pod):
            if not pod.spec.nodeName:
                self._bind(pod.metadata.name)
                continue
            self._run(pod)

    def close(self):
        for name, process in self._running.items():
            self._starts.kill(name, process)
            process.wait()

    def _bind(self, name):
        """Not by lightkube's `create`, which takes the answer for a binding; it is a status."""
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/binding"
        target = {"apiVersion": "v1", "kind": "Node", "name": "node"}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        self._api._client._client.post(path, json=body)

    def _run(self, pod):
        name, process = pod.metadata.name, self._running.get(pod.metadata.name)
        if pod.metadata.deletionTimestamp:
            self._end(pod, process)
        elif process is None and pod.status.phase not in ENDED:
            if self._starts.lacks(name, pod.spec.containers[0].image):
                self._tell(name, "Pending", {"waiting": {"reason": "ErrImagePull", "message": "no such image"}})
                return
            self._running[name] = self._starts.start(name, pod.spec)
            self._started[name] = now()
        elif process is not None and process.poll() is not None and pod.status.phase not in ENDED:
            self._ended(name, process.returncode)
        if name in self._running and pod.status.phase == "Pending" and self._running[name].poll() is None:
            self._tell(name, "Running", {"running": {"startedAt": self._started[name]}})

    def _ended(self, name, code):
        code = 128 - code if code < 0 else code
        told = {
            "exitCode": code,
            "reason": "Error" if code else "Completed",
            "startedAt": self._started[name],
            "finishedAt": now(),
        }
        self._tell(name, "Failed" if code else "Succeeded", {"terminated": told})

    def _end(self, pod, process):
        name = pod.metadata.name
        if process is not None and process.poll() is None:
            if name not in self._asked:
                self._asked[name] = time.monotonic()
                _signal(process, signal.SIGTERM)
            if time.monotonic() - self._asked[name] > pod.metadata.deletionGracePeriodSeconds:
                self._starts.kill(name, process)
            return
        if process is not None:
            self._starts.kill(name, process)
        self._running.pop(name, None)
        with contextlib.suppress(ApiError):
            self._api.delete(Pod, name, grace_period=0)

    def _tell(self, name, phase, state):
        status = {
            "name": "flaregate",
            "image": "",
            "imageID": "",
            "ready": phase == "Running",
            "restartCount": 0,
            "state": state,
        }
        with contextlib.suppress(ApiError):
            found = {"status": {"phase": phase, "containerStatuses": [status]}}
            self._api.patch(PodStatus, name, found, patch_type=PatchType.MERGE)


def _signal(process, number):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def kubeconfig(path, url, authority=None, **user):
    """A file with which a client comes in as a user."""
    cluster = {"server": url} | ({"certificate-authority": str(authority)} if authority else {})
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": NAMESPACE}}],
                "clusters": [{"name": "test", "cluster": cluster}],
                "users": [{"name": "test", "user": user}],
            }
        )
    )
    return path
