"""What a cell says of itself: nothing outside a job; inside, whole notes in the outbox, and the wait for them."""

import json
import threading
import time

import numpy as np
import pytest
from sklearn.svm import SVC

import flaregate as fg
from flaregate import fitted, running
from flaregate.fitted_file import MEDIA_TYPE
from flaregate.notes import NOTE


@pytest.fixture
def outbox(tmp_path, monkeypatch):
    monkeypatch.setenv("FLAREGATE_OUTBOX", str(tmp_path))
    return tmp_path


def notes(folder):
    return [
        (NOTE.validate_json(path.read_bytes()), path.with_suffix(".data")) for path in sorted(folder.glob("*.json"))
    ]


def test_outside_a_job_both_return_and_do_nothing(tmp_path):
    table = {"a": 1}
    assert fg.artifact("table", table) is table
    assert fg.artifact("file", tmp_path / "missing") == tmp_path / "missing"
    assert fg.report(1, loss=0.5) is None
    assert running.settle(0, 0)


def test_outside_a_cell_nothing_is_written(outbox):
    fg.artifact("table", {"a": 1})
    fg.report(1, loss=0.5)
    assert not list(outbox.iterdir())


def test_a_file_and_an_object_are_left_under_the_cells_number(outbox, tmp_path_factory):
    file = tmp_path_factory.mktemp("made") / "notes.txt"
    file.write_text("words")
    model = SVC().fit([[0], [1]], [0, 1])
    with running.as_candidate(7):
        assert fg.artifact("notes", str(file)) == str(file)
        fg.artifact("rows", np.arange(3))
        fg.artifact("model", model)
    (text, words), (_, rows), (kept, state) = notes(outbox)
    assert (text.name, text.media_type, words.read_text()) == ("notes-7", "text/plain", "words")
    assert np.load(rows).tolist() == [0, 1, 2]
    assert kept.media_type == MEDIA_TYPE
    assert fitted.load(state, trust=True).predict([[1]]).tolist() == [1]


def test_figures(outbox):
    with running.as_candidate(2):
        fg.report(3, loss=np.float32(0.5), accuracy=float("nan"), seen=10)
        with pytest.raises(TypeError, match="loss is a str"):
            fg.report(4, loss="low")
    ((note, _),) = notes(outbox)
    assert (note.candidate, note.step) == (2, 3)
    assert note.values == {"loss": 0.5, "accuracy": {"$float": "nan"}, "seen": 10}
    assert json.loads(next(outbox.glob("*.json")).read_bytes())["kind"] == "metrics"


def test_names_are_checked_outside_a_job_too():
    for name in ("", "a/b", "../x", "x" * 81):
        with pytest.raises(ValueError, match="no name of an artifact"):
            fg.artifact(name, 1)


def test_a_cell_waits_for_its_own_notes_alone(outbox):
    with running.as_candidate(1):
        fg.report(0, loss=1.0)
    with running.as_candidate(11):
        fg.report(0, loss=1.0)
    assert not running.settle(1, 0.05)
    mine = next(outbox.glob("*.1.*.json"))
    threading.Timer(0.1, mine.unlink).start()
    began = time.monotonic()
    assert running.settle(1, 5)
    assert time.monotonic() - began < 4
    assert not running.settle(11, 0)
