"""A run as the API shows it. No I/O."""

from datetime import UTC, datetime
from typing import Any

from infra.code_engine.simulator.limits import spec_of
from infra.code_engine.simulator.project import Instance, Run

_WORDS = ("pending", "running", "succeeded", "failed")


def told(run: Run) -> dict[str, Any]:
    """All of it, without what is in its variables by reference."""
    instances = list(run.instances.values())
    details: dict[str, Any] = {"requested": len(instances)}
    details["indices_details"] = {str(one.index): _detail(one) for one in instances}
    for word in _WORDS:
        indices = [one.index for one in instances if one.status == word]
        details[word] = len(indices)
        if indices:
            details[f"{word}_indices"] = spec_of(indices)
    starts = [one.started for one in instances if one.started is not None]
    if starts:
        details["start_time"] = _stamp(min(starts))
    if run.over:
        details["completion_time"] = _stamp(max(one.finished or 0.0 for one in instances))
    defaults: dict[str, Any] = {"run_arguments": [], "run_commands": [], "run_volume_mounts": []}
    return {
        **defaults,
        "computed_env_variables": [],
        "run_env_variables": [],
        **run.order.body,
        "name": run.name,
        "id": run.id,
        "created_at": _stamp(run.created),
        "resource_type": "job_run_v2",
        "status": run.status,
        "status_details": details,
    }


def _detail(one: Instance) -> dict[str, Any]:
    found: dict[str, Any] = {"status": one.status, "retries": one.retries}
    if one.placed is not None:
        found["started_at"] = _stamp(one.placed)
    if one.finished is not None:
        found["finished_at"] = _stamp(one.finished)
    if one.failure is not None:
        found["last_failure_reason"] = one.failure
    return found


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
