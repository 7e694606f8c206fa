"""Pipelines of estimators on Ray clusters that exist only while they work: the SDK.

What is here is loaded when it is first used, so that a process of a cluster that needs one module loads no client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flaregate.async_client import AsyncClient, AsyncJob
    from flaregate.client import Client, Job
    from flaregate.errors import (
        AmbiguousBest,
        CostCapReached,
        FlaregateError,
        GatewayUnavailable,
        JobCancelled,
        JobFailed,
        JobTimedOut,
        NoArtifact,
        Refused,
    )
    from flaregate.inputs import dataset, ref
    from flaregate.outcomes import Outcome, Result
    from flaregate.pipelines import NodeRef, Pipeline
    from flaregate.running import artifact, report

_HOME = {
    "AmbiguousBest": "errors",
    "AsyncClient": "async_client",
    "AsyncJob": "async_client",
    "Client": "client",
    "CostCapReached": "errors",
    "FlaregateError": "errors",
    "GatewayUnavailable": "errors",
    "Job": "client",
    "JobCancelled": "errors",
    "JobFailed": "errors",
    "JobTimedOut": "errors",
    "NoArtifact": "errors",
    "NodeRef": "pipelines",
    "Outcome": "outcomes",
    "Pipeline": "pipelines",
    "Refused": "errors",
    "Result": "outcomes",
    "artifact": "running",
    "dataset": "inputs",
    "ref": "inputs",
    "report": "running",
}
"""The module of each name."""

__all__ = [
    "AmbiguousBest",
    "AsyncClient",
    "AsyncJob",
    "Client",
    "CostCapReached",
    "FlaregateError",
    "GatewayUnavailable",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobTimedOut",
    "NoArtifact",
    "NodeRef",
    "Outcome",
    "Pipeline",
    "Refused",
    "Result",
    "artifact",
    "dataset",
    "ref",
    "report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    found = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
