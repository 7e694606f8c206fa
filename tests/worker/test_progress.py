"""Progress is told when there is some."""

from datetime import UTC, datetime

from worker_image.engine.progress import INTERVAL, Progress


def test_it_is_said_when_it_has_come_further_and_not_too_often():
    said, moment = [], 0.0
    progress = Progress(said.append, lambda: datetime(2026, 1, 1, tzinfo=UTC), 1, total=3, clock=lambda: moment)
    progress.say(always=True)
    for done in (0, 0, 1, 1, 1, 2, 3):
        moment += 0.6 * INTERVAL
        progress.done = done
        progress.say()
    progress.say(always=True)
    progress.say(always=True)
    assert [event.done for event in said] == [0, 1, 2, 3]


def test_a_refit_after_the_last_task_is_told():
    said = []
    progress = Progress(said.append, lambda: datetime(2026, 1, 1, tzinfo=UTC), 1, total=1, done=1)
    progress.say(always=True)
    progress.refits["pca"] += 1
    progress.say(always=True)
    assert [event.type for event in said] == ["progress", "node"]
