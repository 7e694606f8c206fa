"""What the doctor reads in the events of its job."""

from datetime import UTC, datetime, timedelta

import pytest

from flaregate.cli.doctor import exit_for
from flaregate.preflight import definition, remarks, steps
from flaregate_wire.events import AttemptEvent, ConditionEvent, LogEvent, OutcomeEvent
from flaregate_wire.jobs import JobView
from flaregate_wire.states import Reason, State

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def view(state=State.SUCCEEDED, reason=None, workers=1, hosts=("head", "worker 10.0.0.2:1")):
    given = definition(workers, 600)
    cluster = {"topology": "cluster", "workers": workers, "min_workers": workers, "cpus": 1, "memory": 1, "why": ""}
    return JobView(
        id="job-1",
        name="doctor",
        action=given.action,
        project="p",
        labels={},
        state=state,
        reason=reason,
        created=NOW,
        cluster=cluster,
        definition=given,
        version=1,
        result={"outcomes": 12, "failed": 0, "stats": {"hosts": hosts}},
    )


def reached(phase, index=0, seconds=1.0):
    return AttemptEvent(time=NOW + timedelta(seconds=seconds), attempt=1, phase=phase, index=index)


def logged(index):
    return LogEvent(time=NOW + timedelta(seconds=5), attempt=1, index=index, key="k", start=0, size=1)


LAUNCHED = [reached("launched", seconds=0.5), reached("booted"), reached("ray_ready")]
WORKER = [reached("booted", 1), reached("joined", 1), logged(1)]
DONE = OutcomeEvent(time=NOW + timedelta(seconds=6), attempt=1, candidate=0, path=("probe",))
END = [DONE, logged(0), reached("committed", seconds=7), reached("gone", seconds=8)]


def test_where_all_is_well_there_is_a_time_for_each_step_and_no_advice():
    found = steps([*LAUNCHED, *WORKER, *END], view())
    assert [step.seconds for step in found] == [0.5, 1, 1, 1, 1, 5, 6, 5, 7, 8]
    assert [step.advice for step in found] == [None] * 10
    assert exit_for(view(), found) == 0


def test_a_replacement_is_no_launch_and_no_worker_of_its_own():
    assert steps([reached("launched", 2), reached("joined", 2)], view())[0].seconds is None


@pytest.mark.parametrize(
    ("events", "missed", "word"),
    [
        ([], 0, "credentials"),
        (LAUNCHED[:1], 1, "FLAREGATE_PUBLIC_URL"),
        ([*LAUNCHED[:2], WORKER[0]], 2, "2 GB"),
        ([*LAUNCHED, *END], 3, "quota"),
        ([*LAUNCHED, WORKER[0], *END], 4, "reach each other by TCP"),
        ([*LAUNCHED, *WORKER[:2], *END], 7, "reach the store's address"),
        ([*LAUNCHED, *WORKER, *END[:3]], 9, "did not confirm"),
    ],
)
def test_the_first_step_that_did_not_happen_has_the_advice(events, missed, word):
    found = steps(events, view())
    (advised,) = [place for place, step in enumerate(found) if step.advice is not None]
    assert advised == missed
    assert found[missed].seconds is None
    assert word in found[missed].advice
    assert exit_for(view(State.FAILED, Reason.WORKERS_NOT_JOINED), found) == 5
    assert exit_for(view(), found) == 5, "a job that succeeded with its head alone is no cluster"
    assert exit_for(view(State.TIMED_OUT, Reason.TIMEOUT), found) == 4


def test_a_head_alone_is_asked_for_no_worker_and_no_ray():
    found = steps([*LAUNCHED[:2], *END], view(workers=0))
    assert [step.name for step in found if "worker" in step.name or "Ray" in step.name] == []
    assert all(step.seconds is not None for step in found)


def test_a_worker_that_has_done_nothing_was_not_reached():
    found = steps([*LAUNCHED, *WORKER, *END], view(hosts=("head",)))
    (missed,) = [step for step in found if step.seconds is None]
    assert missed.name == "the head reached the worker"
    assert "traffic goes both ways" in missed.advice


def test_what_was_said_meanwhile_is_told_once():
    full = ConditionEvent(time=NOW, name="launch_failed", active=True, message="403 no such project")
    over = ConditionEvent(time=NOW, name="launch_failed", active=False)
    detail = {"exit_code": 137, "trouble": "out_of_memory"}
    lost = AttemptEvent(time=NOW, attempt=1, phase="lost", index=1, detail=detail)
    silent = AttemptEvent(time=NOW, attempt=1, phase="lost", index=2)
    assert remarks([full, over, full, *LAUNCHED, lost, silent]) == [
        "launch_failed: 403 no such project",
        "worker 1 was lost: exit_code 137, trouble out_of_memory",
        "worker 2 was lost: the platform does not say how",
    ]
