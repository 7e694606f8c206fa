"""The one transition table."""

import itertools

from flaregate_wire.problems import MEANING as CODE_MEANING
from flaregate_wire.problems import STATUS, Code
from flaregate_wire.states import HINTS, MEANING, RETRIED, TRANSITIONS, Reason, State, may_move

ENDS = {State.SUCCEEDED, State.FAILED, State.CANCELLED, State.TIMED_OUT}


def test_every_state_is_in_the_table_and_explained():
    assert set(TRANSITIONS) == set(MEANING) == set(State)
    assert set(HINTS) == set(Reason) > RETRIED


def test_terminal_states_never_change():
    assert {state for state in State if state.terminal} == ENDS
    assert not any(may_move(old, new) for old, new in itertools.product(ENDS, State))


def test_success_comes_only_after_finishing_and_every_live_state_can_be_ended():
    assert [old for old in State if may_move(old, State.SUCCEEDED)] == [State.FINISHING]
    for state in set(State) - ENDS:
        assert TRANSITIONS[state] >= {State.CANCELLED, State.TIMED_OUT, State.FAILED}


def test_every_state_can_be_reached():
    reached = {State.QUEUED}
    for _ in State:
        reached |= {new for old in reached for new in TRANSITIONS[old]}
    assert reached == set(State)


def test_every_error_code_has_a_status_and_a_meaning():
    assert set(STATUS) == set(CODE_MEANING) == set(Code)
