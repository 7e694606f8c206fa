"""Every error of the SDK, in one tree, and the one table from a gateway's code to its class.

```
FlaregateError
├── Refused                 before anything is sent, and a 4xx answer: .code, .errors
├── GatewayUnavailable      no gateway, or it cannot answer: .retryable
├── JobEnded                the job ended without all that was asked for: .job, .reason, .result
│   ├── JobFailed
│   ├── JobCancelled
│   ├── JobTimedOut
│   └── CostCapReached
├── AmbiguousBest           several fitted pipelines, and nothing that ranks them
└── NoArtifact              there is no fitted pipeline, and how to get one
```
"""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from flaregate_wire.problems import STATUS, Code, Fault, Problem, faults_of


class FlaregateError(Exception):
    """Anything that goes wrong here."""


class Refused(FlaregateError):
    """What was asked for breaks a rule; asking again is useless."""

    def __init__(self, message: str, *, code: str = Code.INVALID_DEFINITION, errors: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.code = str(code)
        self.errors = tuple(errors)

    @classmethod
    def for_faults(cls, faults: Sequence[Fault]) -> "Refused":
        """One error that names every fault."""
        return cls("\n".join(fault.message for fault in faults), errors=faults)

    @classmethod
    def for_validation(cls, error: ValidationError) -> "Refused":
        """One error for what a wire model refuses, with a pointer to each place."""
        return cls.for_faults(faults_of(error))

    def __reduce__(self) -> tuple[Any, ...]:
        return _refused, (type(self), str(self), self.code, self.errors)


def _refused(kind: type[Refused], message: str, code: str, errors: tuple[Fault, ...]) -> Refused:
    return kind(message, code=code, errors=errors)


class GatewayUnavailable(FlaregateError):
    """No gateway answers, or it cannot answer now."""

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable


class JobEnded(FlaregateError):
    """The job ended without all that was asked for."""

    def __init__(self, message: str, *, job: Any = None, reason: str | None = None, result: Any = None) -> None:
        super().__init__(message)
        self.job = job
        self.reason = reason
        self.result = result


class JobFailed(JobEnded):
    """The job failed; the message holds the first traceback where there is one."""


class JobCancelled(JobEnded):
    """Someone cancelled the job."""


class JobTimedOut(JobEnded):
    """The job reached its timeout."""


class CostCapReached(JobEnded):
    """The job reached its cost cap."""


class AmbiguousBest(FlaregateError):
    """Several pipelines were fitted, and training scores do not rank models; choose one of result.outcomes."""


class NoArtifact(FlaregateError):
    """No fitted pipeline was kept for this outcome."""


_UNAVAILABLE = frozenset({Code.IDEMPOTENCY_IN_FLIGHT, Code.TOO_MANY_STREAMS, Code.UNAVAILABLE, Code.INTERNAL})

CLASSES: dict[Code, type[Refused] | type[GatewayUnavailable]] = {
    code: GatewayUnavailable if code in _UNAVAILABLE else Refused for code in STATUS
}


def error_for(problem: Problem) -> FlaregateError:
    """The error that a gateway's problem stands for."""
    message = "\n".join(fault.message for fault in problem.errors) or problem.detail or problem.title
    if CLASSES[problem.code] is GatewayUnavailable:
        trace = f" (trace {problem.trace_id})" if problem.trace_id else ""
        return GatewayUnavailable(f"{message}{trace}", retryable=problem.retryable)
    return Refused(message, code=problem.code, errors=problem.errors)
