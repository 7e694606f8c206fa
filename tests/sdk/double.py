"""A gateway in memory, as an httpx transport: it keeps jobs and blobs, cuts streams, and misbehaves where told to."""

import json
from datetime import UTC, datetime
from urllib.parse import unquote

import httpx

from flaregate_wire.blobs import BlobOffer
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.digests import digest_bytes
from flaregate_wire.problems import MEANING, MEDIA_TYPE, RETRYABLE, STATUS, Problem

URL = "http://gateway.test"
NOW = datetime(2026, 1, 1, tzinfo=UTC).isoformat()


def problem(code, detail=None, errors=(), **headers):
    body = Problem(
        title=code,
        status=STATUS[code],
        detail=detail or MEANING[code],
        code=code,
        retryable=code in RETRYABLE,
        errors=errors,
    )
    return httpx.Response(STATUS[code], content=body.model_dump_json(), headers={"content-type": MEDIA_TYPE, **headers})


def outcome(number, candidate, **more):
    return {
        "id": number,
        "type": "outcome",
        "time": NOW,
        "attempt": 1,
        "candidate": candidate,
        "path": ["tree"],
        "axes": [["tree", "max_depth", candidate + 1]],
        "scores": {"score": [0.5, 0.5 + candidate / 10]},
        "mean": 0.5 + candidate / 20,
        "std": candidate / 20,
        "times": {"fit": 0.1, "fit_folds": [0.1, 0.1]},
        **more,
    }


def end(number, state="succeeded", **more):
    return {"id": number, "type": "end", "time": NOW, "state": state, **more}


def sse(event):
    return f"id: {event['id']}\nevent: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


class Cut(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Bytes, and then a broken connection."""

    def __init__(self, data):
        self.data = data

    def __iter__(self):
        yield self.data
        raise httpx.ReadError("cut")

    async def __aiter__(self):
        yield self.data
        raise httpx.ReadError("cut")


class Double:
    """Answers as API.md says. `faults` are given first, one a request; `cuts` are how many bytes streams live."""

    def __init__(self, events=(), faults=(), cuts=(), view=None):
        self.events = list(events)
        self.faults = list(faults)
        self.cuts = list(cuts)
        self.more = view or {}
        self.requests = []
        self.blobs = {}
        self.drafts = {}
        self.jobs = {}
        self.definition = None
        self.artifacts = {}
        self.media_types = {}
        self.running = 0

    @property
    def transport(self):
        return httpx.MockTransport(self)

    def paths(self):
        return [f"{request.method} {request.url.path}" for request in self.requests]

    def __call__(self, request):
        self.requests.append(request)
        if self.faults:
            fault = self.faults.pop(0)
            if isinstance(fault, Exception):
                raise fault
            if fault is not None:
                return fault
        path = request.url.path
        if request.url.host == "store.test":
            assert "authorization" not in request.headers
            return httpx.Response(200, content=self.artifacts[unquote(path).removeprefix("/")])
        if path == "/v1/blobs":
            return self._offer(BlobOffer.model_validate_json(request.content))
        if path.startswith("/objects/"):
            assert "authorization" not in request.headers
            self.drafts[path.removeprefix("/objects/")] = request.content
            assert int(request.headers["content-length"]) == len(request.content)
            return httpx.Response(204)
        if path.startswith("/v1/blobs/"):
            return self._complete(path.removeprefix("/v1/blobs/").removesuffix(":complete"))
        assert request.headers["authorization"] == "Bearer secret"
        return self._job(request, path)

    def _offer(self, offer):
        if offer.sha256 in self.blobs:
            return httpx.Response(200, json={"exists": True})
        upload = {"method": "PUT", "url": f"{URL}/objects/{offer.sha256}", "headers": {"x-signed": "1"}}
        return httpx.Response(201, json={"exists": False, "upload": [upload]})

    def _complete(self, sha256):
        data = self.drafts.pop(sha256)
        if digest_bytes(data) != sha256:
            return problem("blob_mismatch")
        self.blobs[sha256] = data
        return httpx.Response(204)

    def _job(self, request, path):
        if path == "/v1/jobs" and request.method == "POST":
            return self._submit(request)
        if path == "/v1/jobs":
            return httpx.Response(200, json={"jobs": [self.view("job-1", "succeeded")]})
        _, _, _, job, *rest = path.split("/")
        return self._of_job(request, rest) if job == "job-1" else problem("not_found")

    def _of_job(self, request, rest):
        match rest:
            case []:
                self.running -= 1
                return httpx.Response(200, json=self.view("job-1", "running" if self.running >= 0 else None))
            case ["cancel"]:
                self.more = {"state": "cancelled", "reason": "cancelled_by_user"}
                return httpx.Response(202, json=self.view("job-1"))
            case ["events"]:
                return self._stream(request)
            case ["results"]:
                lines = [json.dumps(event) for event in self.events if event["type"] == "outcome"]
                return httpx.Response(200, content="\n".join(lines) + "\n")
            case ["artifacts"]:
                return httpx.Response(200, json={"artifacts": self._artifacts()})
            case ["artifacts", name]:
                return httpx.Response(307, headers={"location": f"http://store.test/{name}"})
        raise AssertionError(rest)

    def _artifacts(self):
        return [
            {
                "name": name,
                "media_type": self.media_types.get(name, "x/y"),
                "size": len(data),
                "sha256": digest_bytes(data),
            }
            for name, data in self.artifacts.items()
        ]

    def _submit(self, request):
        self.definition = JobDefinition.model_validate_json(request.content)
        missing = self.definition.blobs() - set(self.blobs)
        assert not missing, missing
        self.jobs[request.headers["idempotency-key"]] = "job-1"
        return httpx.Response(202, json=self.view("job-1", "queued"))

    def _stream(self, request):
        last = int(request.headers.get("last-event-id", 0))
        data = b": still here\n\n" + b"".join(sse(event) for event in self.events if event["id"] > last)
        headers = {"content-type": "text/event-stream"}
        if self.cuts:
            return httpx.Response(200, headers=headers, stream=Cut(data[: self.cuts.pop(0)]))
        return httpx.Response(200, headers=headers, content=data)

    def view(self, job, state=None):
        return {
            "id": job,
            "name": "small",
            "action": self.definition.action if self.definition else "search",
            "project": "default",
            "labels": {},
            "state": state or "succeeded",
            "created": NOW,
            "version": 1,
            "cluster": {"topology": "single", "workers": 0, "min_workers": 0, "cpus": 1, "memory": 1, "why": "small"},
            "definition": json.loads(self.definition.model_dump_json(by_alias=True)) if self.definition else None,
            **({} if state else self.more),
        }
