"""The attempt endpoints and a store over real HTTP, with what arrives kept in plain sight; can be away and come back."""

import hashlib
import json
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from flaregate_wire.attempts import BatchAnswer, EventBatch, HeadAddress, Manifest, ObjectsRequest, Order, Rendezvous
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.jobs import Cluster
from flaregate_wire.problems import MEDIA_TYPE, STATUS, Code, Problem

BOOTSTRAP = "bootstrap-canary"
DEFINITION = {
    "pipeline": {
        "name": "p",
        "nodes": [
            {
                "name": "pca",
                "kind": "estimator",
                "import": "sklearn.decomposition:PCA",
                "signature": {"params": ["n_components"], "abilities": ["transform"]},
                "needs": {"memory": 1_000_000},  # so that Ray is started at once
            }
        ],
        "edges": [],
    },
    "action": "fit",
    "inputs": {"X": {"dataset": "sklearn.datasets:load_iris", "part": "data"}},
}


class GatewayDouble:
    """One attempt. `blobs` are staged, `objects` have been written, `events` have been taken in, in order."""

    def __init__(self, workers=0, lease=60.0, blobs=(), cpus=1.0, memory=1_000_000_000, warm=0):
        self.attempt = f"a{time.monotonic_ns():x}"
        self.cluster = Cluster(
            topology="cluster" if workers else "single",
            workers=workers,
            min_workers=0,
            cpus=cpus,
            memory=memory,
            why="test",
        )
        self.lease, self.warm = lease, warm
        self.blobs = {f"sha256:{hashlib.sha256(blob).hexdigest()}": blob for blob in blobs}
        self.objects, self.events, self.next = {}, [], Counter()
        self.head = self.manifest = None
        self.heads = threading.Condition()
        self.cancel = self.over = False
        self.batches = Counter()
        self.ray_token = "r" * 64
        self.node_secret = self.spill = None
        self._server = None
        self.port = 0
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def _do(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                try:
                    status, answer = double.answer(self, body)
                except Fault as fault:
                    problem = Problem(title="", status=STATUS[fault.code], detail="", code=fault.code)
                    status, answer = problem.status, problem.model_dump_json().encode()
                self.send_response(status)
                self.send_header("Content-Type", MEDIA_TYPE if status >= 400 else "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_PUT = do_POST = _do  # noqa: N815 - the names http.server looks for

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def __init__(self, *given):
                self.connections = set()
                super().__init__(*given)

            def get_request(self):
                got = super().get_request()
                self.connections.add(got[0])
                return got

            def handle_error(self, request, client_address):
                pass

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def go_away(self):
        self._server.shutdown()
        self._server.server_close()
        for connection in self._server.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.over = True
        with self.heads:
            self.heads.notify_all()
        self.go_away()

    def answer(self, request, body):
        url = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path.startswith("/store/"):
            return self._store(request, url.path.removeprefix("/store/"), body)
        prefix = f"/v1/attempts/{self.attempt}/"
        if not url.path.startswith(prefix):
            raise Fault(Code.NOT_FOUND)
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        action = url.path.removeprefix(prefix)
        if action == "order":
            if bearer != BOOTSTRAP:
                raise Fault(Code.UNAUTHORIZED)
            if self.over:
                raise Fault(Code.ATTEMPT_OVER)
            return 200, self._order(int(query["index"])).model_dump_json(by_alias=True).encode()
        if not bearer.startswith("token-canary-"):
            raise Fault(Code.UNAUTHORIZED)
        if self.over:
            raise Fault(Code.ATTEMPT_OVER)
        return getattr(self, f"_{request.command.lower()}_{action}")(body, query, bearer)

    def _order(self, index):
        return Order(
            job="j",
            attempt=self.attempt,
            number=1,
            index=index,
            role="worker" if index else "head",
            token=f"token-canary-{index}",
            lease=self.lease,
            deadline=datetime.now(UTC) + timedelta(hours=1),
            cluster=self.cluster,
            ray_token=self.ray_token,
            node_secret=self.node_secret,
            spill=self.spill,
            trust_scope={"tenant": "t", "project": "p"},
            definition=None if index else JobDefinition.model_validate({**DEFINITION, "warm": self.warm}),
            blobs={} if index else {sha: {"method": "GET", "url": f"{self.url}/store/{sha}"} for sha in self.blobs},
        )

    def _store(self, request, key, body):
        assert "Authorization" not in request.headers
        if request.command == "GET":
            return (200, self.blobs[key]) if key in self.blobs else (404, b"")
        assert request.headers["X-Signed"] == "yes"
        self.objects[key] = body
        return 200, b""

    def _put_head(self, body, query, bearer):
        with self.heads:
            self.head = HeadAddress.model_validate_json(body)
            self.heads.notify_all()
        return 200, b"{}"

    def _get_head(self, body, query, bearer):
        done = query.get("until") == "done"
        with self.heads:
            self.heads.wait_for(lambda: self.over or self.manifest or (self.head and not done), float(query["wait"]))
        return 200, Rendezvous(head=self.head, done=self.manifest is not None or self.over).model_dump_json().encode()

    def _post_events(self, body, query, bearer):
        batch = EventBatch.model_validate_json(body)
        self.batches[bearer] += 1
        if batch.first > self.next[bearer]:
            raise Fault(Code.SEQUENCE_GAP)
        new = batch.events[self.next[bearer] - batch.first :]
        self.events += new
        self.next[bearer] += len(new)
        answer = BatchAnswer(acknowledged=self.next[bearer], lease=self.lease, cancel=self.cancel)
        return 200, answer.model_dump_json().encode()

    def _post_objects(self, body, query, bearer):
        names = ObjectsRequest.model_validate_json(body).put
        return 200, json.dumps({"put": [(name, self.signed(name)) for name in names]}).encode()

    def _post_commit(self, body, query, bearer):
        with self.heads:
            self.manifest = Manifest.model_validate_json(body)
            self.heads.notify_all()
        return 200, b"{}"

    def signed(self, key):
        """A request that writes an object here."""
        return {"method": "PUT", "url": f"{self.url}/store/{key}", "headers": {"X-Signed": "yes"}}

    def phases(self, index=0):
        return [event.phase for event in self.events if event.type == "attempt" and event.index == index]

    def log(self, index=0):
        segments = [event for event in self.events if event.type == "log" and event.index == index]
        assert [s.start for s in segments] == [sum(e.size for e in segments[:n]) for n in range(len(segments))]
        return b"".join(self.objects[segment.key] for segment in segments).decode()


class Fault(Exception):
    def __init__(self, code):
        self.code = code
