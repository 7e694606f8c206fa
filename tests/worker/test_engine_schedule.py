"""The schedule against a simulated runner that loses tasks, results and machines at random."""

from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaregate_wire.definitions import JobDefinition
from flaregate_wire.events import ErrorDetail
from flaregate_wire.planning import plan
from flaregate_wire.planning.families import every_family, grow, lone_family
from worker_image.engine.batches import batch_size
from worker_image.engine.schedule import LOSSES, Load, Schedule, Verdict
from worker_image.engine.tasks import Cut, Done, Loss, Report


def planned(nodes, edges=(), axes=()):
    body = {
        "pipeline": {"nodes": nodes, "edges": edges},
        "action": "search",
        "inputs": {"X": {"dataset": "package:load"}},
        "axes": [{"node": node, "param": param, "values": values} for node, param, values in axes],
        "scoring": "accuracy",
    }
    return plan(JobDefinition.model_validate(body))


def estimator(name):
    return {"name": name, "kind": "estimator", "import": "package:Thing", "params": {"which": name}}


def join(name, *of):
    return {"name": name, "kind": "join", "of": of}


DIAMOND = planned(
    [estimator("a"), estimator("b"), estimator("c"), join("d", "b", "c"), estimator("e"), estimator("f")],
    [("a", "b"), ("a", "c"), ("d", "e"), ("d", "f")],
    [("b", "n", [1, 2]), ("e", "m", list(range(7))), ("f", "m", [1, 1, 2])],
)


class Simulation:
    """Holds what steps made, and checks that nothing runs before its inputs are there."""

    def __init__(self, made, folds, slots=2, pace=0.001, **known):
        self.plan = made
        self.cuts = tuple(Cut(0, fold) for fold in range(folds))
        self.schedule = Schedule(made, grow(every_family(made)), self.cuts, **known)
        self.slots = slots
        self.pace = pace
        self.held = set()
        self.running = []
        self.submitted = Counter()
        self.ended = Counter()
        self.errors = []
        self.there = True

    def submit(self, limit=8):
        while len(self.running) < limit:
            taken = self.schedule.take(self.slots)
            if taken is None:
                break
            if isinstance(taken, Verdict):
                self.judge(taken)
                continue
            if isinstance(taken, Load):
                if self.there:
                    self.held.add(taken.key)
                self.schedule.loaded(taken, there=self.there)
                continue
            self.running.append(SimpleNamespace(task=taken, lost=[key for key in taken.inputs if key not in self.held]))
            if not taken.leaf:
                self.submitted[taken.key] += 1
        for key in self.schedule.releases:
            self.held.discard(key)
        self.schedule.releases.clear()

    def judge(self, verdict):
        for member in verdict.members:
            for candidate in member.candidates:
                self.ended[candidate, verdict.cut.fold] += 1
                self.errors.append((candidate, verdict.cut.fold, verdict.error.type))

    def finish(self, place, *, loss=None, error=None, forget=(), finished=0):
        entry = self.running.pop(place)
        task = entry.task
        if loss is None and any(key not in self.held for key in task.inputs):
            loss = Loss.INPUT_LOST
        for key in forget:
            self.held.discard(key)
        reports = tuple(Report(error=error) for _ in task.digests[: finished if loss else None])
        for verdict in self.schedule.done(Done(task, reports, self.pace * len(task.digests), "here", loss, "lost")):
            self.judge(verdict)
        if loss is None and not task.leaf:
            self.held.add(task.key)
        for member in task.members[: len(reports)]:
            for candidate in member.candidates:
                self.ended[candidate, task.cut.fold] += 1

    def every_leaf_ended_once(self, folds):
        expected = {(candidate, fold) for candidate in range(len(self.plan)) for fold in range(folds)}
        return dict(self.ended) == dict.fromkeys(expected, 1)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_without_losses_each_step_is_made_once_for_each_fold_and_nothing_stays_held(data):
    simulation = Simulation(DIAMOND, 3)
    simulation.submit()
    while simulation.running:
        assert not any(entry.lost for entry in simulation.running)
        simulation.finish(data.draw(st.integers(0, len(simulation.running) - 1)))
        simulation.submit()
    assert simulation.every_leaf_ended_once(3)
    assert set(simulation.submitted.values()) == {1}
    assert len(simulation.submitted) == 3 * 6  # a, b twice, c, d twice: none of them is alone behind another
    assert not simulation.held
    assert not simulation.errors


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_with_losses_every_leaf_still_ends_once(data):
    simulation = Simulation(DIAMOND, 2)
    simulation.submit()
    troubles = 6
    while simulation.running:
        place = data.draw(st.integers(0, len(simulation.running) - 1))
        trouble = data.draw(st.sampled_from(["none", "none", "died", "node"])) if troubles else "none"
        forget = data.draw(st.sets(st.sampled_from(sorted(simulation.held)))) if simulation.held and troubles else ()
        troubles -= trouble != "none" or bool(forget)
        loss = {"died": Loss.DIED, "node": Loss.NODE_LOST}.get(trouble)
        simulation.finish(place, loss=loss, forget=forget)
        simulation.submit()
    assert simulation.every_leaf_ended_once(2)
    assert not simulation.held
    assert {kind for _, _, kind in simulation.errors} <= {"WorkerDied"}


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_errors_above_reach_every_leaf_behind_them_and_no_other(data):
    simulation = Simulation(DIAMOND, 2)
    failing = data.draw(st.sets(st.sampled_from(sorted(simulation.schedule.forest.above))))
    simulation.submit()
    while simulation.running:
        place = data.draw(st.integers(0, len(simulation.running) - 1))
        task = simulation.running[place].task
        bad = not task.leaf and bool({step.digest for step in task.steps} & failing)
        simulation.finish(place, error=ErrorDetail(type="Bad", message="") if bad else None)
        simulation.submit()
    assert simulation.every_leaf_ended_once(2)
    behind = {
        (candidate.index, fold)
        for candidate in DIAMOND
        for fold in range(2)
        if failing & {step.digest for step in DIAMOND.steps(candidate)[:-1]}
    }
    assert {(candidate, fold) for candidate, fold, _ in simulation.errors} == behind


def test_a_batch_that_died_runs_again_one_by_one_and_only_the_killer_is_blamed():
    simulation = Simulation(planned([estimator("a")], axes=[("a", "n", list(range(40)))]), 1)
    simulation.submit(1)
    simulation.finish(0)
    simulation.submit(1)
    assert len(simulation.running[0].task.members) > 1
    killer = simulation.running[0].task.members[1].candidates[0]
    simulation.finish(0, loss=Loss.DIED, finished=1)
    assert simulation.ended[killer - 1, 0] == 1  # what had ended before is kept
    while not simulation.every_leaf_ended_once(1):
        simulation.submit(1)
        task = simulation.running[0].task
        ours = killer in task.members[0].candidates and len(task.members) == 1
        simulation.finish(0, loss=Loss.DIED if ours else None)
    assert simulation.errors == [(killer, 0, "WorkerDied")]


def test_a_task_that_is_lost_with_its_machine_again_and_again_is_given_up():
    simulation = Simulation(planned([estimator("a"), estimator("b")], [("a", "b")]), 1)
    simulation.submit()
    for _ in range(LOSSES + 1):
        simulation.finish(0, loss=Loss.NODE_LOST)
        simulation.submit()
    assert not simulation.running
    assert simulation.errors == [(0, 0, "WorkerDied")]


def test_folds_of_the_first_candidates_come_first():
    made = planned([estimator("a"), estimator("b")], [("a", "b")], [("a", "n", [1, 2, 3]), ("b", "m", [1, 2])])
    simulation = Simulation(made, 2, pace=1.0)
    order = []
    simulation.submit(1)
    while simulation.running:
        task = simulation.running[0].task
        if task.leaf:
            order += [(candidate, task.cut.fold) for member in task.members for candidate in member.candidates]
        simulation.finish(0)
        simulation.submit(1)
    assert [candidate for candidate, _ in order] == sorted(candidate for candidate, _ in order)


def test_the_schedule_of_one_candidate_has_its_steps_alone():
    forest = grow([lone_family(DIAMOND, 8)])
    assert (len(forest.above), forest.tasks) == (4, 5)


def test_a_run_of_steps_without_branches_is_one_task():
    made = planned([estimator(name) for name in "abcd"], [("a", "b"), ("b", "c"), ("c", "d")], [("d", "n", [1, 2, 3])])
    simulation = Simulation(made, 2)
    simulation.submit()
    assert [[step.node for step in entry.task.steps] for entry in simulation.running] == [["a", "b", "c"]] * 2
    while simulation.running:
        simulation.finish(0)
        simulation.submit()
    assert simulation.every_leaf_ended_once(2)


class Known:
    """Some leaves are known, and some results stored."""

    def __init__(self, leaves=(), stored=()):
        self._leaves, self._stored = set(leaves), set(stored)

    def leaves(self, family, cut):
        members = {member.step.digest: member for member in family.members(DIAMOND)}
        return {digest: Report(cached=True) for digest in members if (digest, cut) in self._leaves}

    def stored(self, unit, cut):
        return (unit.digest, cut) in self._stored


CUTS = [Cut(0, fold) for fold in range(2)]
LEAVES = sorted({(DIAMOND.steps(candidate)[-1].digest, cut) for candidate in DIAMOND for cut in CUTS})
RESULTS = sorted((digest, cut) for digest in grow(every_family(DIAMOND)).above for cut in CUTS)


@given(st.sets(st.sampled_from(LEAVES)), st.sets(st.sampled_from(RESULTS)), st.booleans(), st.data())
@settings(max_examples=150, deadline=None)
def test_what_is_known_is_not_computed_and_what_is_stored_is_loaded(leaves, stored, there, data):
    simulation = Simulation(DIAMOND, 2, known=Known(leaves, stored))
    for member, cut, _ in simulation.schedule.given():
        for candidate in member.candidates:
            simulation.ended[candidate, cut.fold] += 1
    simulation.there = there
    simulation.submit()
    while simulation.running:
        task = simulation.running[data.draw(st.integers(0, len(simulation.running) - 1))].task
        assert not {(member.step.digest, task.cut) for member in task.members} & leaves
        assert not (there and task.steps and task.key in stored)
        simulation.finish(next(place for place, entry in enumerate(simulation.running) if entry.task is task))
        simulation.submit()
    assert simulation.every_leaf_ended_once(2)
    assert not simulation.held
    if leaves == set(LEAVES):
        assert not simulation.submitted


def test_the_leaves_that_take_longest_go_first():
    made = planned([estimator("a"), estimator("b")], axes=[("a", "n", list(range(9))), ("b", "n", list(range(9)))])
    simulation = Simulation(made, 1, slots=1)
    simulation.submit(2)
    assert {entry.task.step.node for entry in simulation.running} == {"a"}
    simulation.finish(0)
    simulation.pace = 1.0
    simulation.submit(2)
    assert simulation.running[-1].task.step.node == "b"  # not tried yet
    simulation.finish(1)
    simulation.submit(3)
    assert [entry.task.step.node for entry in simulation.running[1:]] == ["b", "b"]


@pytest.mark.parametrize(
    ("pace", "left", "slots", "size"),
    [
        (None, 5000, 2, 1),
        (0.002, 5000, 2, 50),
        (0.002, 160, 2, 20),
        (0.002, 8, 2, 10),
        (0.3, 5000, 2, 1),
        (0.0, 100_000, 2, 1000),
        (0.002, 5000, 1000, 10),
    ],
)
def test_batches_are_long_enough_and_leave_every_core_some(pace, left, slots, size):
    assert batch_size(pace, left, slots) == size
