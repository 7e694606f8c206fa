"""Admission: who may begin, in which order, and why the others wait."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaregate_wire.definitions import Action
from flaregate_wire.jobs import Cluster
from flaregate_wire.states import State
from gateway.jobs.ledger import Claim, admit, bounded, claim_of
from gateway.jobs.records import AttemptRecord, Instance, JobRecord
from gateway.launchers.base import Quota

QUOTA = Quota(cpus=16, memory=64_000, instances=8, runs=4)


def claim(job, tenant="t", cpus=2.0, memory=8_000, instances=2, runs=1):
    return Claim(job, tenant, cpus, memory, instances, runs)


def test_all_are_let_in_while_there_is_room_and_then_in_order():
    admission = admit(QUOTA, [claim("a")], [claim("b"), claim("c"), claim("d"), claim("e"), claim("f")])
    assert admission.let_in == {"b", "c", "d"}
    assert [(job, place.position, place.length) for job, place in admission.places.items()] == [
        ("e", 1, 2),
        ("f", 2, 2),
    ]
    assert admission.places["e"].reason == "waits for 2 containers (8 of 8 are in use) and 1 runs (4 of 4 are in use)"
    assert admission.places["f"].reason.startswith("waits behind e, which waits for 2 containers")


def test_a_gang_is_let_in_whole_or_not_at_all_and_nobody_overtakes_it():
    admission = admit(QUOTA, [claim("a", cpus=8)], [claim("large", cpus=12), claim("small", cpus=1)])
    assert admission.let_in == frozenset()
    assert list(admission.places) == ["large", "small"]
    assert "12 vCPU (8 of 16 are in use)" in admission.places["large"].reason


def test_the_next_place_is_the_tenants_that_has_least():
    many = [claim(f"a{n}", "many") for n in range(10)]
    admission = admit(QUOTA, [claim("x", "many"), claim("y", "many")], [*many, claim("b0", "few"), claim("b1", "few")])
    assert admission.let_in == {"b0", "b1"}
    assert next(iter(admission.places)) == "a0"


def test_of_two_that_have_the_same_the_older_job_goes_first():
    admission = admit(Quota(runs=1), [], [claim("job-2", "b"), claim("job-1", "a")])
    assert admission.let_in == {"job-1"}


@pytest.mark.parametrize(("quota", "expected"), [(Quota(), False), (Quota(runs=1), True), (Quota(memory=0), True)])
def test_a_platform_without_limits_keeps_nobody_waiting(quota, expected):
    assert bounded(quota) is expected
    if not expected:
        assert admit(quota, [claim("a")], [claim("b")]).let_in == {"b"}


def test_a_replacement_has_the_room_of_the_lost_worker_and_who_was_let_go_leaves_it():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    cluster = Cluster(topology="cluster", workers=3, min_workers=0, cpus=2, memory=10, why="test")
    job = JobRecord("j", "t", "n", Action.SEARCH, "p", {}, State.RUNNING, now, now, cluster, timeout=9, retries=0)
    attempt = AttemptRecord("j-1", "t", "j", 1, now)
    assert claim_of(job) == claim_of(job, attempt) == Claim("j", "t", 8.0, 40, 4, 1)
    replaced = replace(attempt, lost=(1,), replacements=(4,))
    assert claim_of(job, replaced) == Claim("j", "t", 8.0, 40, 4, 2)
    assert claim_of(job, replace(replaced, lost=(1, 2))) == Claim("j", "t", 6.0, 30, 3, 2)
    let_go = replace(replaced, released=(2, 3), instances={2: Instance(now, now), 3: Instance(now)})
    assert claim_of(job, let_go) == Claim("j", "t", 6.0, 30, 3, 2), "only what has ended leaves room"


CLAIMS = st.builds(
    Claim,
    job=st.uuids().map(str),
    tenant=st.sampled_from("abc"),
    cpus=st.integers(1, 8).map(float),
    memory=st.integers(1, 30_000),
    instances=st.integers(1, 4),
)


@given(st.lists(CLAIMS, max_size=4), st.lists(CLAIMS, max_size=12))
def test_the_quota_holds_and_everyone_is_let_in_or_has_a_place(taken, queue):
    admission = admit(QUOTA, taken, queue)
    assert admission.let_in.isdisjoint(admission.places)
    assert admission.let_in | admission.places.keys() == {one.job for one in queue}
    assert [place.position for place in admission.places.values()] == list(range(1, len(admission.places) + 1))
    inside = [*taken, *(one for one in queue if one.job in admission.let_in)]
    if admission.let_in:
        assert sum(one.cpus for one in inside) <= QUOTA.cpus
        assert sum(one.memory for one in inside) <= QUOTA.memory
        assert sum(one.instances for one in inside) <= QUOTA.instances
        assert len(inside) <= QUOTA.runs
