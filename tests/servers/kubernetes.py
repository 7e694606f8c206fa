"""A Kubernetes small enough to start in a moment: an API server of Jobs and Pods, and a node that runs the pods.

The node also does what the controllers of a real cluster do: it makes the pod of each Job, tells the Job how its pod
ended, and removes what has lost its owner. It knows the API alone, so it serves a real API server too.
"""

import contextlib
import copy
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import lightkube
from lightkube.core.exceptions import ApiError
from lightkube.resources.batch_v1 import Job, JobStatus
from lightkube.resources.core_v1 import Pod, PodStatus
from lightkube.types import PatchType

NAMESPACE = "flaregate"
_PATH = re.compile(
    r"/(?:api|apis/batch)/v1/namespaces/(?P<namespace>[^/]+)/(?P<kind>pods|jobs)(?:/(?P<name>[^/]+))?(?P<status>/status)?"
)
KINDS = {"pods": ("v1", "Pod"), "jobs": ("batch/v1", "Job")}
WORKER = [sys.executable, "-m", "worker_image"]
"""What the image runs."""
INHERITED = ("PATH", "HOME", "PYTHONPATH", "VIRTUAL_ENV")


def now():
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class ApiServer:
    """Jobs and Pods of one namespace, in memory. `broken` makes every answer to others than the node a 500, `stranger` a 401."""

    def __init__(self):
        self.objects = {"pods": {}, "jobs": {}}
        self.lock = threading.RLock()
        self.broken = self.stranger = False
        self.quota = None
        """Pods at most."""
        self.requests = []
        self.before = lambda asked: None
        """Called before a request of others than the node is answered; may wait."""
        self.pods_made = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.api = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, method, path, query, body, *, node):  # noqa: C901 - a table of answers
        """Gives status and document."""
        found = _PATH.fullmatch(path)
        if not node:
            self.requests.append(f"{method} {path}")
            self.before(self.requests[-1])
        if (self.broken or self.stranger) and not node:
            code, word = (500, "InternalError") if self.broken else (401, "Unauthorized")
            return code, _problem(code, word, "the server is broken, or does not know you")
        if found is None or found["namespace"] != NAMESPACE:
            return 404, _problem(404, "NotFound", path)
        kind, name = found["kind"], found["name"]
        with self.lock:
            if method == "POST":
                return self._create(kind, body)
            if method == "GET" and name is None:
                return 200, self._list(kind, query.get("labelSelector", [""])[0])
            if name not in self.objects[kind]:
                return 404, _problem(404, "NotFound", f'{kind} "{name}" not found')
            if method == "GET":
                return 200, self.objects[kind][name]
            if method == "PATCH":
                _merge(self.objects[kind][name], body)
                return 200, self.objects[kind][name]
            return self._delete(kind, name, body, query)

    def _create(self, kind, body):
        name = body["metadata"]["name"]
        if name in self.objects[kind]:
            return 409, _problem(409, "AlreadyExists", f'{kind} "{name}" already exists')
        if kind == "jobs" and self.quota is not None and len(self.objects["jobs"]) >= self.quota:
            return 403, _problem(403, "Forbidden", f'jobs "{name}" is forbidden: exceeded quota: jobs')
        version, word = KINDS[kind]
        made = copy.deepcopy(body) | {"apiVersion": version, "kind": word}
        made["metadata"] |= {"uid": secrets.token_hex(8), "creationTimestamp": now(), "namespace": NAMESPACE}
        made.setdefault("status", {"phase": "Pending"} if kind == "pods" else {})
        self.objects[kind][name] = made
        self.pods_made += kind == "pods"
        return 201, made

    def _list(self, kind, selector):
        wanted = dict(part.split("=") for part in selector.split(",") if part)
        items = [
            one for one in self.objects[kind].values() if wanted.items() <= one["metadata"].get("labels", {}).items()
        ]
        version, word = KINDS[kind]
        return {"apiVersion": version, "kind": f"{word}List", "metadata": {}, "items": copy.deepcopy(items)}

    def _delete(self, kind, name, body, query):
        one = self.objects[kind][name]
        grace = (body or {}).get("gracePeriodSeconds", query.get("gracePeriodSeconds", [None])[0])
        grace = one["spec"].get("terminationGracePeriodSeconds", 30) if grace is None else int(grace)
        if kind == "jobs" or grace == 0 or not one["spec"].get("nodeName"):
            del self.objects[kind][name]
        elif "deletionTimestamp" not in one["metadata"] or grace < one["metadata"]["deletionGracePeriodSeconds"]:
            one["metadata"] |= {"deletionTimestamp": now(), "deletionGracePeriodSeconds": grace}
        return 200, one


def _problem(code, reason, message):
    return {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": code,
        "metadata": {},
    }


def _merge(target, patch):
    for key, value in patch.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        elif value is None:
            target.pop(key, None)
        else:
            target[key] = value


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self):
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        node = self.headers.get("User-Agent") == "node"
        status, document = self.server.api.answer(self.command, parts.path, parse_qs(parts.query), body, node=node)
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - http.server's names

    def log_message(self, *_):
        pass


class Processes:
    """Pods as processes of this machine."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, name, container):
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

    def address(self, name):
        return "127.0.0.1"


class Containers:
    """Pods as containers of Podman on one network."""

    def __init__(self, podman, network, label):
        self.podman, self.network, self.label = podman, network, label

    def start(self, name, container):
        limits = container.resources.limits
        options = [f"--env={one.name}={one.value}" for one in container.env or ()]
        options += [
            f"--cpus={limits['cpu']}",
            f"--memory={limits['memory']}",
            "--read-only",
            "--cap-drop=all",
            "--init",
        ]
        entrypoint = [f"--entrypoint={json.dumps(container.command)}"] if container.command else []
        return subprocess.Popen(
            ["podman", "run", f"--name={name}", f"--network={self.network}", f"--label={self.label}", "--tmpfs=/tmp:rw,exec,mode=1777",
             "--user=10001", "--security-opt=no-new-privileges", *options, *entrypoint, container.image],
            env=self.podman.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    def address(self, name):
        return self.podman.run(
            "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name, check=False
        )


class Node:
    """Runs the pods of one namespace until it is closed."""

    def __init__(self, configuration, starts):
        config = lightkube.KubeConfig.from_file(configuration)
        self._api = lightkube.Client(config.get(), namespace=NAMESPACE)
        self._api._client._client.headers["User-Agent"] = "node"
        self._starts = starts
        self._running = {}
        self._asked = {}
        self._started = {}
        self._broken = None
        self._ending = threading.Event()
        for kind in (Job, Pod):  # before there is a second thread: msgspec crashes where two resolve one class at once
            list(self._api.list(kind))
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def close(self):
        self._ending.set()
        self._thread.join()
        for process in self._running.values():
            _kill(process, signal.SIGKILL)
            process.wait()
        self._api.close()
        if self._broken is not None:
            raise self._broken

    def _work(self):
        while not self._ending.wait(0.05):
            try:
                self._step()
            except ApiError:
                continue  # something has gone meanwhile
            except Exception as error:  # noqa: BLE001 - told at the end
                self._broken = error
                return

    def _step(self):
        jobs = {one.metadata.uid: one for one in self._api.list(Job)}
        pods = list(self._api.list(Pod))
        self._control(jobs, pods)
        for pod in pods:
            self._run(pod)

    def _control(self, jobs, pods):
        """What the controllers of a real cluster do."""
        owners = {pod.metadata.ownerReferences[0].uid: pod for pod in pods if pod.metadata.ownerReferences}
        for uid, job in jobs.items():
            owned_by = job.metadata.ownerReferences
            if owned_by and owned_by[0].uid not in jobs:
                self._delete(Job, job.metadata.name)
            elif uid not in owners and not _over(job):
                self._create_pod(job)
            elif uid in owners and not _over(job) and owners[uid].status.phase in ("Succeeded", "Failed"):
                word = owners[uid].status.phase.lower()
                self._patch(JobStatus, job.metadata.name, {"status": {word: 1}})
        for uid, pod in owners.items():
            if uid not in jobs and not pod.metadata.deletionTimestamp:
                self._delete(Pod, pod.metadata.name)

    def _create_pod(self, job):
        template = job.spec.template
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": job.metadata.name,
            "uid": job.metadata.uid,
            "controller": True,
        }
        pod = template.to_dict() | {"apiVersion": "v1", "kind": "Pod"}
        pod["metadata"] = {
            "name": f"{job.metadata.name}-{secrets.token_hex(3)}", "labels": template.metadata.labels, "ownerReferences": [owner],
        }  # fmt: skip
        pod["spec"] |= {"nodeName": "node", "activeDeadlineSeconds": job.spec.activeDeadlineSeconds}
        self._api.create(Pod.from_dict(pod))

    def _run(self, pod):
        name, process = pod.metadata.name, self._running.get(pod.metadata.name)
        if pod.metadata.deletionTimestamp:
            self._end(pod, process)
        elif process is None and pod.status.phase not in ("Succeeded", "Failed"):
            if pod.spec.containers[0].image.startswith("missing"):
                waiting = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
                self._tell(name, "Pending", waiting)
                return
            self._running[name] = self._starts.start(name, pod.spec.containers[0])
            self._started[name] = now()
            self._tell(name, "Running", {"running": {"startedAt": self._started[name]}})
        elif process is not None and process.poll() is not None and pod.status.phase == "Running":
            self._ended(name, process.returncode)

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
            first = self._asked.setdefault(name, time.monotonic())
            if first == self._asked[name] and time.monotonic() - first < 0.1:
                _kill(process, signal.SIGTERM)
            if time.monotonic() - first > pod.metadata.deletionGracePeriodSeconds:
                _kill(process, signal.SIGKILL)
            return
        if process is not None:
            _kill(process, signal.SIGKILL)
        self._running.pop(name, None)
        self._delete(Pod, name, grace=0)

    def _tell(self, name, phase, state):
        status = {
            "name": "flaregate",
            "image": "",
            "imageID": "",
            "ready": phase == "Running",
            "restartCount": 0,
            "state": state,
        }
        found = {"phase": phase, "containerStatuses": [status], "podIP": self._starts.address(name)}
        self._patch(PodStatus, name, {"status": found})

    def _patch(self, kind, name, body):
        with contextlib.suppress(ApiError):
            self._api.patch(kind, name, body, patch_type=PatchType.MERGE)

    def _delete(self, kind, name, grace=None):
        with contextlib.suppress(ApiError):
            self._api.delete(kind, name, grace_period=grace)


def _over(job):
    return job.status is not None and bool(job.status.succeeded or job.status.failed)


def _kill(process, number):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def kubeconfig(path, url, **user):
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": NAMESPACE}}],
                "clusters": [{"name": "test", "cluster": {"server": url}}],
                "users": [{"name": "test", "user": user}],
            }
        )
    )
    return path


@contextlib.contextmanager
def kubernetes(folder):
    """The API server with its configuration, and a node of processes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    api = ApiServer()
    api.configuration = kubeconfig(folder / "kubeconfig.json", api.url)
    node = Node(api.configuration, Processes(folder / "pods"))
    try:
        yield api
    finally:
        node.close()
        api.close()
