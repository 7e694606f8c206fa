"""The API of one Code Engine project. The one module that imports IBM's SDK, and knows when it may be asked again."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from ibm_cloud_sdk_core import ApiException
from ibm_cloud_sdk_core.authenticators import IAMAuthenticator
from ibm_code_engine_sdk.code_engine_v2 import CodeEngineV2
from jwt import PyJWTError
from requests.exceptions import RequestException

from gateway.launchers.base import Barred, CannotSee, LaunchRefused

API_VERSION = "2025-07-10"
TIMEOUT = 30
"""Seconds that a request may take."""
PATIENCE = 600.0
"""Seconds of silence at most, whatever is asked for: a wrong date must not silence the gateway for good."""
_REFUSED, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 400, 401, 403, 404
_BUSY = (408, 429, 503)
_SERVER_FAULT = 500
_FULL = re.compile(r"quota|limit\b.*\b(reached|exceed)|\b(reached|exceed)\w*\b.*\blimit", re.IGNORECASE | re.DOTALL)
"""What an answer says where the project has as many of something as it may have."""


@dataclass(frozen=True, slots=True)
class Access:
    """Which project, and how to get into it."""

    project: str
    region: str
    key: str = field(repr=False)
    url: str | None = None
    iam_url: str | None = None


class Refusal(Exception):
    """An error that the API, or IAM, answered."""

    def __init__(self, exc: ApiException) -> None:
        super().__init__(f"{exc.status_code} {exc.message}")
        self.status = int(exc.status_code or 0)
        self.code = _code(exc)
        headers = getattr(exc.http_response, "headers", None)
        self.headers: Mapping[str, str] = {} if headers is None else headers

    @property
    def temporary(self) -> bool:
        """Whether the same may be taken another time."""
        return self.status in _BUSY or self.status >= _SERVER_FAULT or bool(_FULL.search(f"{self.code} {self}"))


class Api:
    """Requests to the project from any thread. All share one token; each thread has a session of its own."""

    def __init__(self, access: Access, clock: Callable[[], float]) -> None:
        self._access = access
        self._clock = clock
        self._local = threading.local()
        self._entering = threading.Lock()
        self._refusals = 0
        self._kept_out: CannotSee | None = None
        """Why there was no token the last time, of so many."""
        self._quiet_until = 0.0
        """Until then the API has asked not to be asked."""
        try:
            self._authenticator = self._fresh()
        except ValueError as exc:
            raise LaunchRefused(f"FLAREGATE_CODE_ENGINE_KEY is no API key: {exc}") from exc

    def create(self, body: Mapping[str, Any]) -> None:
        """Raises Refusal or CannotSee."""
        self._ask(lambda api: api.create_job_run(self._access.project, **body))

    def delete(self, name: str) -> None:
        """Delete a job run, or find it gone. Raises CannotSee."""
        try:
            self._ask(lambda api: api.delete_job_run(self._access.project, name))
        except Refusal as exc:
            if exc.status != _NOT_FOUND:
                raise CannotSee(f"Code Engine did not delete {name}: {exc}") from exc

    def runs(self, job: str) -> Iterator[Mapping[str, Any]]:
        """The runs of a job, each with its name. Raises Barred or CannotSee."""
        start: str | None = None
        while True:
            page = self._page(job, start)
            yield from page["job_runs"]
            start = (page.get("next") or {}).get("start")
            if not start:
                return

    def _page(self, job: str, start: str | None) -> Mapping[str, Any]:
        try:
            page = self._ask(lambda api: api.list_job_runs(self._access.project, job_name=job, limit=100, start=start))
        except Refusal as exc:
            if exc.status in (_FORBIDDEN, _NOT_FOUND):
                raise Barred(
                    f"Code Engine does not show the project {self._access.project} in {self._access.region}: {exc}; "
                    "see FLAREGATE_CODE_ENGINE_PROJECT and _REGION, and give the key the role Writer on it"
                ) from exc
            raise CannotSee(f"Code Engine did not list the job runs: {exc}") from exc
        runs = page.get("job_runs") if isinstance(page, dict) else None
        if not isinstance(runs, list) or not all(isinstance(run, dict) and run.get("name") for run in runs):
            raise CannotSee("Code Engine's list of job runs cannot be read: it has no job_runs with a name each")
        return dict(page)

    def _ask(self, request: Callable[[CodeEngineV2], Any]) -> Any:
        """One request; a token that is no longer taken is asked for anew, once."""
        refusal: Refusal | None = None
        for _ in range(2):
            if self._clock() < self._quiet_until:
                raise CannotSee("Code Engine has asked not to be asked for a while")
            authenticator = self._entered()
            try:
                return request(self._client(authenticator)).get_result()
            except ApiException as exc:
                refusal = self._heard(exc)
            except RequestException as exc:
                raise CannotSee(f"Code Engine gave no answer: {exc}") from exc
            if refusal.status != _UNAUTHORIZED:
                raise refusal
            self._leave(authenticator)
        raise Barred(f"Code Engine takes no token that IAM gives for FLAREGATE_CODE_ENGINE_KEY: {refusal}")

    def _heard(self, exc: ApiException) -> Refusal:
        refusal = Refusal(exc)
        if refusal.status in _BUSY:
            self._quiet_until = self._clock() + retry_after(refusal.headers)
        return refusal

    def _entered(self) -> IAMAuthenticator:
        """An authenticator with a token. After a failure a new one: IBM's waits a minute before it asks again."""
        before = self._refusals
        with self._entering:
            if before != self._refusals and self._kept_out is not None:
                raise type(self._kept_out)(*self._kept_out.args)  # it was asked while this thread waited
            authenticator = self._authenticator
            try:
                authenticator.token_manager.get_token()
            except (ApiException, RequestException, PyJWTError) as exc:
                self._authenticator = self._fresh()
                self._refusals += 1
                self._kept_out = self._why(exc)
                raise self._kept_out from exc
            return authenticator

    def _why(self, exc: ApiException | RequestException | PyJWTError) -> CannotSee:
        if not isinstance(exc, ApiException):
            return CannotSee(f"IAM gave no token: {exc}")
        refusal = self._heard(exc)
        if refusal.status not in (_REFUSED, _UNAUTHORIZED, _FORBIDDEN):
            return CannotSee(f"IAM gave no token: {refusal}")
        return Barred(
            f"IAM does not take the API key: {refusal}; mend it, or set FLAREGATE_CODE_ENGINE_KEY to one "
            "that has the role Writer on the project and start the gateway again"
        )

    def _leave(self, authenticator: IAMAuthenticator) -> None:
        """Its token is not taken any more."""
        with self._entering:
            if self._authenticator is authenticator:
                self._authenticator = self._fresh()

    def _fresh(self) -> IAMAuthenticator:
        authenticator = IAMAuthenticator(self._access.key, url=self._access.iam_url)
        authenticator.token_manager.http_config = {"timeout": TIMEOUT}
        return authenticator

    def _client(self, authenticator: IAMAuthenticator) -> CodeEngineV2:
        known: tuple[IAMAuthenticator, CodeEngineV2] | None = getattr(self._local, "known", None)
        if known is None or known[0] is not authenticator:
            api = CodeEngineV2(authenticator=authenticator, version=API_VERSION)
            api.set_service_url(self._access.url or f"https://api.{self._access.region}.codeengine.cloud.ibm.com/v2")
            api.set_http_config({"timeout": TIMEOUT})
            known = self._local.known = (authenticator, api)
        return known[1]


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that an answer asks for: as a number, or as a date by the sender's own clock if it tells that."""
    text = str(headers.get("Retry-After", "")).strip()
    try:
        seconds = float(text)
    except ValueError:
        seconds = _seconds_until(text, str(headers.get("Date", "")))
    return min(PATIENCE, seconds) if seconds >= 0 else 0.0


def _seconds_until(date: str, sent: str) -> float:
    try:
        then = parsedate_to_datetime(date)
    except ValueError:
        return 1.0
    try:
        now = parsedate_to_datetime(sent)
    except ValueError:
        now = datetime.fromtimestamp(time.time(), UTC)
    return (then.replace(tzinfo=then.tzinfo or UTC) - now.replace(tzinfo=now.tzinfo or UTC)).total_seconds()


def _code(exc: ApiException) -> str:
    """The API's own word for the error; empty where there is none."""
    try:
        return str(exc.http_response.json()["errors"][0]["code"])
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        return ""
