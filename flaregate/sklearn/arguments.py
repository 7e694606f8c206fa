"""The two arguments that drop-ins have beside scikit-learn's own, whose signatures are taken as they are installed."""

from collections.abc import Callable, Mapping
from inspect import Parameter, Signature, signature
from typing import Any

from flaregate.sklearn.jobs import JobClient, Jobs
from flaregate.sklearn.shared import SHARED

DOCUMENTED = """by jobs: arguments, results, errors and warnings are scikit-learn's.

    Beside its arguments, of which `n_jobs` and `pre_dispatch` change nothing here, it takes:

        client: The flaregate.Client to send jobs by; None uses one of the process, opened at first use.
        job_options: Options of `flaregate.Client.submit` for every job: workers, timeout, max_cost, labels, cache …
    """
_OURS = [Parameter(name, Parameter.KEYWORD_ONLY, default=None) for name in ("client", "job_options")]


def extended(function: Callable[..., Any]) -> Signature:
    """The function's signature with ours at its end."""
    own = signature(function)
    return own.replace(parameters=[*own.parameters.values(), *_OURS])


def jobs_of(client: JobClient | None, options: Mapping[str, Any] | None) -> Jobs | None:
    """The jobs of a drop-in; None where scikit-learn is to fit in this process, as inside of a task."""
    found = SHARED.get() if client is None else client
    return None if found is None else Jobs(found, options or {})
