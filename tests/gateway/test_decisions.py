"""What is done next for a job: a table, and any order of anything."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flaregate_wire.attempts import EventBatch, Manifest
from flaregate_wire.definitions import Action
from flaregate_wire.events import EndEvent, StateEvent, UsageEvent
from flaregate_wire.jobs import Cluster, Condition, Progress
from flaregate_wire.states import Reason, State, may_move
from gateway.jobs import decisions as d
from gateway.jobs import intake, moves, replacing
from gateway.jobs.errors import Refusal
from gateway.jobs.records import AttemptRecord, Instance, JobRecord, StandIn, Verdict
from gateway.jobs.starting import NOT_STARTING, tried_again
from gateway.launchers.base import InstanceSighting, Phase, Sighting, Trouble

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RULES = d.Rules(launch_timeout=120, grace=5, linger=0.5, lease=60, since=NOW)
CLUSTER = Cluster(topology="cluster", workers=1, min_workers=0, cpus=2, memory=1024**3, why="test")


def after(seconds):
    return NOW + timedelta(seconds=seconds)


def job(state=State.RUNNING, *, cluster=CLUSTER, **more):
    given = {"attempts": 1, "started": NOW, "timeout": 3600, "retries": 0} | more
    labels = given.pop("labels", {})
    return JobRecord("job-1", "default", "digits", Action.SEARCH, "default", labels, state, NOW, NOW, cluster, **given)


def waiting(references, **more):
    return job(State.QUEUED, attempts=0, started=None, references=references, **more)


def attempt(**more):
    given = {"launched": NOW, "renewed": NOW, "boots": {0: "b"}} | more
    return AttemptRecord("job-1-1", "default", "job-1", 1, NOW, **given)


def seen(head=Phase.RUNNING, worker=Phase.RUNNING, code=None):
    return Sighting((InstanceSighting(0, head, exit_code=code), InstanceSighting(1, worker)))


def workers(*phases):
    head = InstanceSighting(0, Phase.RUNNING)
    return Sighting((head, *(InstanceSighting(index, phase) for index, phase in enumerate(phases, start=1))))


def troubled(phase, trouble):
    return Sighting((InstanceSighting(0, phase, trouble=trouble, story="the platform's words"),))


def waits(worker, trouble, head=Phase.RUNNING):
    """A worker that the platform has not started."""
    waiting = InstanceSighting(worker, Phase.PENDING, trouble=trouble, story="the platform's words")
    return Sighting((InstanceSighting(0, head), waiting))


def tried(seconds):
    """The condition of a job whose container the platform has tried to start for so long, at second 100."""
    return (Condition(name=NOT_STARTING, since=after(100 - seconds), message="worker 1: ErrImagePull"),)


BARRED = (Condition(name=d.BARRED, since=NOW, message="no key"),)
RUNNING, ENDED = seen(), seen(Phase.ENDED, Phase.ENDED, 137)
HEADLESS = seen(Phase.ENDED, code=-9)
ALONE = Sighting((InstanceSighting(0, Phase.RUNNING),))
COMMITTED = Verdict(State.SUCCEEDED, NOW, committed=True)
CANCELLED = Verdict(State.CANCELLED, NOW, Reason.CANCELLED_BY_USER)
REPLACED = workers(Phase.ENDED, Phase.RUNNING)
LOST = Verdict(State.FAILED, NOW, Reason.HEAD_LOST)


def ruled(reason):
    return lambda action: isinstance(action, d.Rule) and action.verdict.reason is reason


def closes(state):
    return lambda action: isinstance(action, d.Close) and action.verdict.state is state


def loses(worker, by=None):
    def expected(action):
        others = () if by is None else (by,)
        return isinstance(action, d.Lose) and [one.index for one in action.lost] == [worker] and action.by == others

    return expected


def is_(expected):
    return lambda action: action == expected


@pytest.mark.parametrize(
    ("record", "last", "sighting", "at", "expected"),
    [
        # before anything runs
        (job(State.QUEUED, attempts=0, started=None), None, None, 0, is_(d.Begin())),
        (
            job(State.QUEUED, attempts=0, started=None, wish=Reason.CANCELLED_BY_USER),
            None,
            None,
            0,
            closes(State.CANCELLED),
        ),
        # what it refers to is looked at first
        (waiting({"s3://b/x.csv": None}), None, None, 0, is_(d.Resolve())),
        (waiting({"s3://b/x.csv": (), "s3://b/y.csv": None}), None, None, 119, is_(d.Resolve())),
        (waiting({"s3://b/x.csv": None}), None, None, 120, closes(State.FAILED)),
        (waiting({"s3://b/x.csv": None}, wish=Reason.CANCELLED_BY_USER), None, None, 0, closes(State.CANCELLED)),
        (waiting({"s3://b/x.csv": ()}), None, None, 500, is_(d.Begin())),
        (job(State.LAUNCHING), attempt(launched=None, boots={}), None, 0, is_(d.Launch())),
        (job(State.LAUNCHING), attempt(boots={}), RUNNING, 119, is_(d.Wait())),
        (job(State.LAUNCHING), attempt(boots={}), RUNNING, 120, ruled(Reason.LAUNCH_TIMEOUT)),
        (job(State.LAUNCHING), attempt(boots={}), None, 120, ruled(Reason.LAUNCH_TIMEOUT)),
        (job(State.LAUNCHING), attempt(launched=None, boots={}), None, 120, ruled(Reason.LAUNCH_TIMEOUT)),
        (job(State.LAUNCHING, conditions=BARRED), attempt(launched=None, boots={}), None, 1000, is_(d.Wait())),
        (job(State.LAUNCHING, conditions=BARRED), attempt(boots={}), RUNNING, 120, ruled(Reason.LAUNCH_TIMEOUT)),
        (
            job(State.LAUNCHING, conditions=BARRED, wish=Reason.CANCELLED_BY_USER),
            attempt(launched=None, boots={}),
            None,
            1,
            ruled(Reason.CANCELLED_BY_USER),
        ),
        (job(State.LAUNCHING, wish=Reason.CLIENT_GONE), attempt(boots={}), RUNNING, 0, ruled(Reason.CLIENT_GONE)),
        # a look that failed, and silence, end nothing by themselves
        (job(), attempt(), RUNNING, 10, is_(d.Wait())),
        (job(), attempt(renewed=after(1700)), None, 1800, is_(d.Wait())),
        (job(), attempt(), RUNNING, 61, is_(d.Wait())),
        (job(), attempt(), None, 119, is_(d.Wait())),
        (job(), attempt(), RUNNING, 120, ruled(Reason.HEAD_LOST)),
        # the platform's word
        (job(), attempt(), HEADLESS, 1, ruled(Reason.HEAD_LOST)),
        (job(), attempt(), ENDED, 1, ruled(Reason.HEAD_LOST)),
        (job(), attempt(), Sighting(), 1, ruled(Reason.HEAD_LOST)),
        # a lost worker ends nothing: another takes its place, while there is something for it to do
        (job(), attempt(), seen(worker=Phase.ENDED), 1, loses(1, by=2)),
        (job(), attempt(instances={1: Instance(NOW)}), ALONE, 1, loses(1, by=2)),
        (job(), attempt(), ALONE, 1, is_(d.Wait())),  # it may not be listed yet
        (job(State.LAUNCHING), attempt(boots={}), seen(worker=Phase.ENDED), 1, loses(1, by=2)),
        (job(), attempt(lost=(1,), replacements=(2,)), REPLACED, 1, is_(d.Wait())),
        (job(), attempt(lost=(1,), replacements=(2,)), None, 1, is_(d.Wait())),
        (job(), attempt(lost=(1,), replacements=(2,)), ALONE, 1, is_(d.Launch())),
        (job(), attempt(lost=(1,), replacements=(2,)), seen(worker=Phase.ENDED), 1, is_(d.Launch())),
        (job(), attempt(lost=(1, 2), replacements=(2,)), ALONE, 1, is_(d.Wait())),
        (job(), attempt(lost=(1,), replacements=(2,)), workers(Phase.ENDED, Phase.ENDED), 1, loses(2, by=3)),
        (job(), attempt(lost=(1, 2), replacements=(2, 3)), workers(*[Phase.ENDED] * 3), 1, loses(3)),  # enough
        (job(), attempt(released=(1,)), seen(worker=Phase.ENDED), 1, is_(d.Wait())),
        (job(), attempt(released=(2,)), seen(worker=Phase.ENDED), 1, loses(1)),
        (job(progress=Progress(done=98, total=100)), attempt(), seen(worker=Phase.ENDED), 1, loses(1)),
        (job(progress=Progress(done=97, total=100)), attempt(), seen(worker=Phase.ENDED), 1, loses(1, by=2)),
        (job(wish=Reason.CANCELLED_BY_USER), attempt(), seen(worker=Phase.ENDED), 1, ruled(Reason.CANCELLED_BY_USER)),
        (job(State.LAUNCHING), attempt(boots={}), Sighting(), 29, is_(d.Wait())),  # it may not be listed yet
        (job(State.LAUNCHING), attempt(boots={}), Sighting(), 30, ruled(Reason.HEAD_LOST)),
        (
            job(State.LAUNCHING),
            attempt(boots={}),
            troubled(Phase.PENDING, Trouble.IMAGE_PULL),
            1,
            ruled(Reason.IMAGE_PULL_FAILED),
        ),
        (job(), attempt(), troubled(Phase.ENDED, Trouble.OUT_OF_MEMORY), 1, ruled(Reason.OOM_KILLED)),
        (job(), attempt(), troubled(Phase.ENDED, Trouble.OUT_OF_DISK), 1, ruled(Reason.OUT_OF_DISK)),
        (job(State.LAUNCHING), attempt(launched=None, boots={}), Sighting(), 1, is_(d.Launch())),
        # time and wishes
        (job(), attempt(renewed=after(3600)), RUNNING, 3600, ruled(Reason.TIMEOUT)),
        (job(wish=Reason.CANCELLED_BY_USER), attempt(), None, 1, ruled(Reason.CANCELLED_BY_USER)),
        # after a commit: the head ends itself, what is left is ended
        (job(State.FINISHING), attempt(verdict=COMMITTED), RUNNING, 0.4, is_(d.Wait())),
        (job(State.FINISHING), attempt(verdict=COMMITTED), RUNNING, 0.5, is_(d.Stop(force=True))),
        (job(State.FINISHING), attempt(verdict=COMMITTED), HEADLESS, 0.1, is_(d.Stop(force=True))),
        (job(State.FINISHING), attempt(verdict=COMMITTED), ENDED, 0.1, is_(d.Leave())),
        (job(State.FINISHING), attempt(verdict=COMMITTED), None, 0.1, is_(d.Wait())),
        # a cancelled head may still say its last words
        (job(State.FINISHING), attempt(verdict=CANCELLED), RUNNING, 0, is_(d.Stop(force=False))),
        (job(State.FINISHING), attempt(verdict=CANCELLED, stopped=NOW), RUNNING, 4, is_(d.Wait())),
        (job(State.FINISHING), attempt(verdict=CANCELLED, stopped=NOW), RUNNING, 5, is_(d.Stop(force=True))),
        (job(State.FINISHING), attempt(verdict=CANCELLED, stopped=NOW), None, 5, is_(d.Stop(force=True))),
        (job(State.FINISHING), attempt(verdict=CANCELLED, stopped=NOW), ENDED, 1, is_(d.Leave())),
        # a lost one may not; and force that had no effect is repeated
        (job(State.FINISHING), attempt(verdict=LOST), RUNNING, 0, is_(d.Stop(force=True))),
        (job(State.FINISHING), attempt(verdict=LOST, stopped=NOW, forced=True), RUNNING, 4, is_(d.Wait())),
        (job(State.FINISHING), attempt(verdict=LOST, stopped=NOW, forced=True), RUNNING, 5, is_(d.Stop(force=True))),
        (job(State.FINISHING), attempt(verdict=LOST, stopped=NOW, forced=True), Sighting(), 1, is_(d.Leave())),
        (job(State.FINISHING), attempt(verdict=LOST), Sighting(), 1, is_(d.Stop(force=True))),
        # between attempts
        (job(State.RETRYING), attempt(verdict=LOST, gone=NOW), None, 1, is_(d.Begin())),
        (
            job(State.RETRYING, wish=Reason.CANCELLED_BY_USER),
            attempt(verdict=LOST, gone=NOW),
            None,
            1,
            closes(State.CANCELLED),
        ),
        (job(State.RETRYING), attempt(verdict=LOST, gone=NOW), None, 3600, closes(State.TIMED_OUT)),
        # the end is the end
        *[
            (job(state, wish=Reason.CANCELLED_BY_USER), attempt(), HEADLESS, 9999, is_(d.Wait()))
            for state in State
            if state.terminal
        ],
    ],
)
def test_the_next_step(record, last, sighting, at, expected):
    action = d.decide(record, last, sighting, after(at), RULES)
    assert expected(action), action


FAILED = (Condition(name=d.UNLAUNCHED, since=NOW, message="429 slow down"),)
PULLING = Sighting((InstanceSighting(0, Phase.PENDING, story="pulling the image"),))


@pytest.mark.parametrize(
    ("record", "last", "sighting", "message"),
    [
        (job(State.LAUNCHING), attempt(boots={}), None, "the head did not report in 120 seconds"),
        (job(State.LAUNCHING), attempt(boots={}), RUNNING, "the head did not report in 120 seconds; it is running, says the platform"),
        (job(State.LAUNCHING), attempt(boots={}), PULLING, "the head did not report in 120 seconds; it is pending, says the platform (pulling the image)"),
        (job(State.LAUNCHING, conditions=FAILED), attempt(launched=None, boots={}), None, "the platform did not take the launch in 120 seconds: 429 slow down"),
    ],
)  # fmt: skip
def test_a_launch_that_came_to_nothing_says_what_is_known(record, last, sighting, message):
    assert d.decide(record, last, sighting, after(120), RULES).verdict.message == message


@pytest.mark.parametrize(
    ("platform", "more"),
    [
        ({}, ""),
        (
            {"sizes": ((1, 10**10), (2, 10**9), (2, 2 * 10**9), (4, 8 * 10**9))},
            "; the next size has 2 GB with 2 vCPU",
        ),
        ({"max_memory": 10**10}, "; resources.memory can be 2.14748 GB"),
        ({"max_memory": 3 * 10**9}, "; resources.memory can be 1.5 GB"),  # the worker has as much
        ({"max_memory": 2 * 1024**3}, ""),
    ],
)
def test_a_starved_head_is_told_what_it_had_and_could_have(platform, more):
    rules = replace(RULES, **platform)
    action = d.decide(job(), attempt(), troubled(Phase.ENDED, Trouble.OUT_OF_MEMORY), after(1), rules)
    told = "the head ran out of memory (the platform's words): it had 1.07374 GB with 2 vCPU"
    assert action.verdict.message == told + more


def test_a_head_that_was_killed_is_told_what_it_had():
    action = d.decide(job(), attempt(), seen(Phase.ENDED, code=-9), after(1), RULES)
    assert action.verdict.reason is Reason.HEAD_LOST
    assert action.verdict.message == (
        "the head's process ended with exit code -9 before it had committed; "
        "want of memory ends a container so: it had 1.07374 GB with 2 vCPU"
    )


def stand_in(place, seconds):
    return StandIn(place, after(seconds))


TWICE = {2: stand_in(1, 0), 3: stand_in(1, 10)}


@pytest.mark.parametrize(
    ("stand_ins", "lost", "at", "expected"),
    [
        ({}, 1, 5, stand_in(1, 5)),  # the first one at once
        ({2: stand_in(1, 0)}, 2, 3, stand_in(1, 10)),
        ({2: stand_in(1, 0)}, 2, 500, stand_in(1, 500)),  # it has lived for long
        ({2: stand_in(1, 0)}, 5, 3, stand_in(5, 3)),  # another place
        (TWICE, 3, 11, stand_in(1, 30)),
        ({index: stand_in(1, 0) for index in range(2, 9)}, 8, 1, stand_in(1, 300)),
    ],
)
def test_replacements_of_one_place_are_paced(stand_ins, lost, at, expected):
    assert replacing.stand_in(attempt(stand_ins=stand_ins), lost, after(at)) == expected


def test_a_replacement_is_launched_when_it_is_due_and_not_when_there_is_nothing_left_for_it():
    paused = attempt(lost=(1, 2), replacements=(2, 3), stand_ins=TWICE)
    both = workers(Phase.ENDED, Phase.ENDED)
    assert d.decide(job(), paused, both, after(9), RULES) == d.Wait()
    assert d.decide(job(), paused, both, after(10), RULES) == d.Launch()
    assert d.decide(job(), replace(paused, released=(4,)), both, after(10), RULES) == d.Wait()
    done = Progress(done=98, total=100)
    assert d.decide(job(progress=done), paused, both, after(10), RULES) == d.Wait()


def test_what_is_lost_is_told_with_the_pause_before_the_next():
    last = attempt(lost=(1,), replacements=(2,), stand_ins={2: stand_in(1, 0)})
    move = moves.lose(job(), last, [InstanceSighting(2, Phase.ENDED, exit_code=1)], (3,), after(4))
    assert move.attempt.stand_ins == TWICE
    assert [event.detail for event in move.events] == [{"exit_code": 1}, {"replaces": 2, "pause": 6}]
    first = moves.lose(job(), attempt(), [InstanceSighting(1, Phase.ENDED)], (2,), after(4))
    assert [event.detail for event in first.events] == [{}, {"replaces": 1}]


IMAGE, AGAIN, WRONG = Trouble.IMAGE_PULL, Trouble.IMAGE_RETRIED, Trouble.MISCONFIGURED
NEEDED = Cluster(topology="cluster", workers=1, min_workers=1, cpus=2, memory=1024**3, why="test")
ONE_OF_TWO = Cluster(topology="cluster", workers=2, min_workers=1, cpus=2, memory=1024**3, why="test")


@pytest.mark.parametrize(
    ("record", "last", "sighting", "expected"),
    [
        # nobody waits for the worker: the job goes on without it, and it is not replaced
        (job(), attempt(), waits(1, IMAGE), loses(1)),
        (job(), attempt(), waits(1, AGAIN), is_(d.Wait())),
        (job(conditions=tried(19)), attempt(), waits(1, AGAIN), is_(d.Wait())),
        (job(conditions=tried(20)), attempt(), waits(1, AGAIN), loses(1)),
        (job(conditions=tried(19)), attempt(), waits(1, WRONG), is_(d.Wait())),
        (job(conditions=tried(20)), attempt(), waits(1, WRONG), loses(1)),
        (job(conditions=tried(99)), attempt(), RUNNING, is_(d.Wait())),
        (job(conditions=tried(99)), attempt(lost=(1,)), waits(1, AGAIN), is_(d.Wait())),
        (job(conditions=tried(99)), attempt(), waits(1, None), is_(d.Wait())),
        # min_workers cannot be had without it
        (job(cluster=NEEDED), attempt(), waits(1, IMAGE), ruled(Reason.IMAGE_PULL_FAILED)),
        (job(State.LAUNCHING, cluster=NEEDED), attempt(boots={}), waits(1, IMAGE), ruled(Reason.IMAGE_PULL_FAILED)),
        (job(cluster=NEEDED, conditions=tried(19)), attempt(), waits(1, AGAIN), is_(d.Wait())),
        (job(cluster=NEEDED, conditions=tried(20)), attempt(), waits(1, AGAIN), ruled(Reason.IMAGE_PULL_FAILED)),
        (job(cluster=NEEDED, conditions=tried(20)), attempt(), waits(1, WRONG), ruled(Reason.PLATFORM_ERROR)),
        # another one can come, or has come
        (job(cluster=ONE_OF_TWO), attempt(), waits(1, IMAGE), loses(1)),
        (job(cluster=ONE_OF_TWO), attempt(lost=(1,)), waits(2, IMAGE), ruled(Reason.IMAGE_PULL_FAILED)),
        (job(cluster=ONE_OF_TWO), attempt(lost=(1,), instances={1: Instance(NOW)}), waits(2, IMAGE), loses(2)),
        (
            job(cluster=NEEDED),
            attempt(lost=(1,), replacements=(2,), instances={1: Instance(NOW, NOW)}),
            waits(2, IMAGE),
            loses(2),
        ),
        # a head
        (job(State.LAUNCHING), attempt(boots={}), troubled(Phase.PENDING, IMAGE), ruled(Reason.IMAGE_PULL_FAILED)),
        (job(State.LAUNCHING, conditions=tried(19)), attempt(boots={}), troubled(Phase.PENDING, AGAIN), is_(d.Wait())),
        (
            job(State.LAUNCHING, conditions=tried(20)),
            attempt(boots={}),
            troubled(Phase.PENDING, AGAIN),
            ruled(Reason.IMAGE_PULL_FAILED),
        ),
        (
            job(State.LAUNCHING, conditions=tried(20)),
            attempt(boots={}),
            troubled(Phase.PENDING, WRONG),
            ruled(Reason.PLATFORM_ERROR),
        ),
        (job(State.LAUNCHING), attempt(boots={}), troubled(Phase.ENDED, AGAIN), ruled(Reason.IMAGE_PULL_FAILED)),
    ],
)
def test_what_does_not_start_is_not_waited_for_where_time_does_not_mend_it(record, last, sighting, expected):
    action = d.decide(record, last, sighting, after(100), RULES)
    assert expected(action), action


def test_a_worker_that_could_not_pull_and_has_ended_is_replaced_unless_there_is_no_such_image():
    ended = InstanceSighting(1, Phase.ENDED, trouble=AGAIN)
    for trouble, by in ((AGAIN, (2,)), (IMAGE, ())):
        sighting = Sighting((InstanceSighting(0, Phase.RUNNING), replace(ended, trouble=trouble)))
        action = d.decide(job(), attempt(), sighting, after(1), RULES)
        assert ([one.index for one in action.lost], action.by) == ([1], by)


def test_a_job_whose_workers_do_not_start_is_told_which_and_why():
    action = d.decide(job(cluster=NEEDED), attempt(), waits(1, IMAGE), after(1), RULES)
    assert action.verdict.message == (
        "the image cannot be pulled (the platform's words): worker 1 does not start, and min_workers is 1"
    )


@pytest.mark.parametrize(
    ("last", "sighting", "message"),
    [
        (attempt(), RUNNING, None),
        (attempt(), waits(1, None), None),
        (attempt(), waits(1, Trouble.OUT_OF_DISK), None),
        (attempt(), waits(1, AGAIN), "worker 1: the platform's words"),
        (attempt(), troubled(Phase.PENDING, WRONG), "the head: the platform's words"),
        (attempt(lost=(1,)), waits(1, AGAIN), None),
        (attempt(verdict=LOST), waits(1, AGAIN), None),
    ],
)
def test_what_the_platform_goes_on_trying_is_told(last, sighting, message):
    assert tried_again(last, sighting) == message


def test_thirty_minutes_without_sight_end_no_healthy_attempt():
    for second in range(0, 1800, 10):
        live = attempt(renewed=after(second))
        assert d.decide(job(), live, None, after(second), RULES) == d.Wait()


def test_the_meter_counts_what_was_seen_and_a_dead_gateway_does_not_stretch_it():
    instances = {0: Instance(NOW, after(10)), 1: Instance(after(5))}
    lost = attempt(instances=instances, renewed=after(20), verdict=LOST)
    closed = moves.leave(job(State.FINISHING), lost, after(100_000), lease=60).job
    assert closed.usage.vcpu_seconds == 2 * (10 + 75)
    assert closed.usage.gib_seconds == 10 + 75
    never = moves.leave(job(State.FINISHING), attempt(verdict=LOST), after(9), lease=60).job
    assert never.usage.vcpu_seconds == 0


@pytest.mark.parametrize(
    ("reason", "retries", "wish", "expected"),
    [
        (Reason.HEAD_LOST, 1, None, State.RETRYING),
        (Reason.OUT_OF_DISK, 1, None, State.FINISHING),
        (Reason.HEAD_LOST, 0, None, State.FINISHING),
        (Reason.LAUNCH_TIMEOUT, 1, None, State.RETRYING),
        (Reason.WORKERS_NOT_JOINED, 1, None, State.RETRYING),
        (Reason.PLATFORM_ERROR, 1, None, State.RETRYING),
        (Reason.USER_ERROR, 5, None, State.FINISHING),
        (Reason.OOM_KILLED, 5, None, State.FINISHING),
        (Reason.HEAD_LOST, 5, Reason.CANCELLED_BY_USER, State.FINISHING),
    ],
)
def test_what_is_retried(reason, retries, wish, expected):
    move = moves.rule(job(retries=retries, wish=wish), attempt(), Verdict(State.FAILED, after(1), reason))
    assert move.job.state is expected


SIGHTINGS = [None, RUNNING, HEADLESS, ENDED, Sighting(), seen(Phase.PENDING, Phase.PENDING), ALONE, REPLACED]
SIGHTINGS += [workers(Phase.ENDED), workers(*[Phase.ENDED] * 2), workers(*[Phase.ENDED] * 3)]


class AnyOrder(RuleBasedStateMachine):
    """A job through which everything comes in any order, repeated and late; the gateway decides in between."""

    @initialize(retries=st.integers(0, 2))
    def submit(self, retries):
        self.time = NOW
        self.attempts, self.events, self.ended = {}, [], None
        self.job = None
        self._write(moves.queued(job(State.QUEUED, attempts=0, started=None, retries=retries)))

    @property
    def last(self):
        return self.attempts.get(self.job.attempts)

    def _write(self, move):
        if move is None:
            return
        assert self.ended is None, "a terminal job was changed"
        for event in move.events:
            if isinstance(event, StateEvent) and self.events:
                states = [old.state for old in self.events if isinstance(old, StateEvent)]
                assert may_move(states[-1], event.state)
        self.job = move.job
        self.events += move.events
        if move.attempt is not None:
            self.attempts[move.attempt.number] = move.attempt
        if self.job.state.terminal:
            self.ended = self.job

    def _try(self, change, number=None):
        found = self.last if number is None else self.attempts.get(number)
        with suppress(Refusal):  # what comes too late or from the wrong one is refused
            self._write(change(self.job, found))

    @rule(number=st.integers(1, 3), index=st.integers(0, 1), boot=st.sampled_from("ab"))
    def order(self, number, index, boot):
        self._try(lambda j, a: moves.boot(j, a, index, boot, self.time), number)

    @rule(number=st.integers(1, 3), first=st.integers(0, 4), count=st.integers(0, 3))
    def report(self, number, first, count):
        events = [{"type": "progress", "time": NOW, "done": n, "total": 9} for n in range(first, first + count)]
        batch = EventBatch.model_validate({"boot": "a", "first": first, "events": events})
        self._try(lambda j, a: intake.take_in(j, a, 0, batch, self.time), number)

    @rule(number=st.integers(1, 3), succeeded=st.booleans(), reason=st.sampled_from([None, *Reason]))
    def commit(self, number, succeeded, reason):
        manifest = Manifest(boot="a", succeeded=succeeded, reason=reason)
        self._try(lambda j, a: moves.commit(j, a, manifest, self.time), number)

    @rule()
    def cancel(self):
        self._try(lambda j, _: moves.wish(j, Reason.CANCELLED_BY_USER))

    @rule(message=st.sampled_from([None, "429"]))
    def condition(self, message):
        self._try(lambda j, _: moves.condition(j, "platform_unseen", self.time, message))

    @rule(seconds=st.sampled_from([0.5, 10, 200, 4000]))
    def wait(self, seconds):
        self.time += timedelta(seconds=seconds)

    @rule(index=st.integers(1, 2))
    def let_go(self, index):
        event = {"type": "attempt", "time": NOW, "phase": "released", "index": index}
        first = 0 if self.last is None else self.last.expected.get(0, 0)
        batch = EventBatch.model_validate({"boot": "a", "first": first, "events": [event]})
        self._try(lambda j, a: intake.take_in(j, a, 0, batch, self.time))

    @rule(sighting=st.sampled_from(SIGHTINGS))
    def decide(self, sighting):
        action = d.decide(self.job, self.last, sighting, self.time, RULES)
        changes = {
            d.Begin: lambda j, a: moves.begin(j, a, self.time),
            d.Launch: lambda j, a: moves.launched(j, a, self.time),
            d.Lose: lambda j, a: moves.lose(j, a, action.lost, action.by, self.time),
            d.Rule: lambda j, a: moves.rule(j, a, action.verdict),
            d.Stop: lambda j, a: moves.stopped(j, a, self.time, force=action.force),
            d.Leave: lambda j, a: moves.leave(j, a, self.time, lease=60),
            d.Close: lambda j, a: moves.close(j, action.verdict, self.time),
        }
        if type(action) in changes:
            self._try(changes[type(action)])

    @invariant()
    def one_end_and_nothing_after_it(self):
        ends = [place for place, event in enumerate(self.events) if isinstance(event, EndEvent)]
        assert len(ends) == (self.ended is not None)
        if self.ended is not None:
            assert ends == [len(self.events) - 1]
            assert isinstance(self.events[-2], UsageEvent)
            assert self.events[-1].state is self.events[-3].state is self.ended.state
            assert all(a.gone for a in self.attempts.values()), "something may be left running"
            assert self.job.attempts <= self.job.retries + 1

    @invariant()
    def each_loss_is_told_once_and_replacements_have_a_bound(self):
        told = [(e.attempt, e.index) for e in self.events if getattr(e, "phase", "") == "lost"]
        assert len(told) == len(set(told))
        for last in self.attempts.values():
            assert sorted(set(last.lost)) == sorted(index for number, index in told if number == last.number)
            assert len(last.replacements) <= min(2, len(last.lost))

    def teardown(self):
        """Whatever came before: with a platform that answers, the job ends."""
        if getattr(self, "job", None) is None:
            return
        for _ in range(40):
            if self.ended is not None:
                break
            stopped = self.last is not None and self.last.stopped is not None
            self.decide(ENDED if stopped else HEADLESS if self.last and self.last.launched else None)
            self.time += timedelta(seconds=1)
        self.one_end_and_nothing_after_it()
        assert self.ended is not None


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)


def test_a_head_that_was_launched_while_no_gateway_was_there_to_hear_it_has_its_time_after_that():
    woken, launched = replace(RULES, since=after(300)), attempt(boots={})
    assert d.decide(job(State.LAUNCHING), launched, RUNNING, after(301), woken) == d.Wait()
    assert ruled(Reason.LAUNCH_TIMEOUT)(d.decide(job(State.LAUNCHING), launched, RUNNING, after(420), woken))


def test_a_lost_answer_to_launch_is_asked_again_and_adopts():
    """The intention is there, the launch may have happened: the same order is given again."""
    record, last = job(State.LAUNCHING), attempt(launched=None, boots={})
    assert d.decide(record, last, None, after(1), RULES) == d.Launch()
    reported = replace(last, boots={0: "a"})
    assert d.decide(replace(record, state=State.RUNNING), reported, RUNNING, after(2), RULES) == d.Launch()


def test_a_loss_is_told_with_who_takes_the_place_and_ends_the_meter():
    started = attempt(instances={0: Instance(NOW), 1: Instance(NOW)})
    lost = InstanceSighting(1, Phase.ENDED, exit_code=-9, story="preempted")
    moved = moves.lose(job(), started, [lost], [2], after(10))
    assert [(event.phase, event.index, event.detail) for event in moved.events] == [
        ("lost", 1, {"exit_code": -9, "story": "preempted"}),
        ("launched", 2, {"replaces": 1}),
    ]
    assert (moved.attempt.lost, moved.attempt.replacements) == ((1,), (2,))
    assert moved.attempt.instances[1].ended == after(10), "the platform shows it no longer: it costs nothing any more"
    assert moves.lose(job(), moved.attempt, [lost], [2], after(11)) is None
    assert moves.lose(job(), replace(started, released=(1,)), [lost], [2], after(10)) is None
    late = moves.lose(job(), replace(started, released=(3,)), [lost], [2], after(10))
    assert (late.attempt.lost, late.attempt.replacements) == ((1,), ()), "the head has begun to let workers go"
