"""A Kubernetes small enough to start in a moment: an API server of Jobs and Pods, for the gateway's account.

tests.contracts.kubernetes is what it has in common with a real one, on which tests/proofs/kubernetes.py runs the same tests.
"""

import contextlib
import copy
import json
import re
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.servers.kubelet import NAMESPACE, Node, Processes, at_work, kubeconfig, now
from tests.servers.kubernetes_admission import VERBS, forbidden, plural, role, settle, wrong
from tests.servers.kubernetes_controllers import Controllers

_PATH = re.compile(
    r"/(?:api|apis/batch)/v1/namespaces/(?P<namespace>[^/]+)/(?P<kind>pods|jobs)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<part>status|binding))?"
)
KINDS = {"pods": ("v1", "Pod"), "jobs": ("batch/v1", "Job")}


class ApiServer:
    """Jobs and Pods of one namespace, in memory. `broken` makes every answer to others than the node a 500, `stranger` a 401."""

    def __init__(self):
        self.objects = {"pods": {}, "jobs": {}}
        self.lock = threading.RLock()
        self.broken = self.stranger = False
        self.rights = role()
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
        if found is None:
            return 404, _problem(404, "NotFound", path)
        kind, name = found["kind"], found["name"]
        allowed = found["namespace"] == NAMESPACE and (kind, VERBS.get((method, name is not None))) in self.rights
        if not (node or allowed):
            return 403, _problem(403, "Forbidden", forbidden(method, kind, name, found["namespace"]))
        with self.lock:
            if method == "POST" and name is None:
                return self._create(kind, body)
            if method == "GET" and name is None:
                return 200, self._list(kind, query.get("labelSelector", [""])[0])
            if name not in self.objects[kind]:
                return 404, _problem(404, "NotFound", f'{plural(kind)} "{name}" not found')
            if method == "DELETE":
                return self._delete(kind, name, body, query)
            if method == "POST":
                self.objects[kind][name]["spec"]["nodeName"] = body["target"]["name"]
            elif method == "PATCH":
                _merge(self.objects[kind][name], body)
            return 200, self.objects[kind][name]

    def _create(self, kind, body):
        name = body["metadata"]["name"]
        if name in self.objects[kind]:
            return 409, _problem(409, "AlreadyExists", f'{plural(kind)} "{name}" already exists')
        if kind == "jobs" and self.quota is not None and len(self.objects["jobs"]) >= self.quota:
            return 403, _problem(403, "Forbidden", f'jobs.batch "{name}" is forbidden: exceeded quota: jobs')
        if kind == "jobs" and (told := wrong(body)):
            return 422, _problem(422, "Invalid", f'Job.batch "{name}" is invalid: {told}')
        version, word = KINDS[kind]
        made = copy.deepcopy(body) | {"apiVersion": version, "kind": word}
        made["metadata"] |= {"uid": secrets.token_hex(8), "creationTimestamp": now(), "namespace": NAMESPACE}
        if kind == "jobs":
            settle(made)
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
            one["metadata"] |= {"deletionTimestamp": now(grace), "deletionGracePeriodSeconds": grace}
        done = {"apiVersion": "v1", "kind": "Status", "status": "Success", "metadata": {}}
        return 200, done if kind == "jobs" else one


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


@contextlib.contextmanager
def kubernetes(folder, starts=None):
    """The API server with its configuration, and a node of processes, or of what else starts pods."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    api = ApiServer()
    api.configuration = kubeconfig(folder / "kubeconfig.json", api.url)

    def node(client):
        return Node(client, starts or Processes(folder / "pods"))

    with contextlib.closing(api), at_work(api.configuration, Controllers, node):
        yield api
