"""Pipelines of estimators on Ray clusters that exist only while they work: the SDK."""

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
from flaregate.inputs import dataset
from flaregate.outcomes import Outcome, Result
from flaregate.pipelines import NodeRef, Pipeline

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
    "dataset",
]
