"""What running code says of itself reaches the gateway from a real container, before the code goes on."""

import json

DRIVER = """
from pathlib import Path
import flaregate as fg
from flaregate import running
made = Path(work["scratch"]) / "made.txt"
made.write_text("words")
with running.as_candidate(7):
    fg.report(1, loss=0.5)
    fg.artifact("notes", str(made))
    fg.artifact("rows", [1, 2, 3])
print("settled", running.settle(7, 10), flush=True)
progress(1)
finish()
"""


def test_artifacts_and_figures_are_there_before_the_outcome(gateway_double, container):
    double = gateway_double()
    with container(double, driver=DRIVER) as process:
        assert process.wait(20) == 0
    assert double.log() == "settled True\n"
    told = [event for event in double.events if event.type in ("artifact", "metrics", "progress")]
    assert [event.type for event in told] == ["metrics", "artifact", "artifact", "progress"]
    figures, notes, rows, _ = told
    assert (figures.candidate, figures.step, figures.values) == (7, 1, {"loss": 0.5})
    assert (notes.name, notes.media_type, double.objects[notes.key]) == ("notes-7", "text/plain", b"words")
    assert (rows.name, rows.size) == ("rows-7", len(double.objects[rows.key]))


def test_what_is_said_last_is_not_lost(gateway_double, container):
    double = gateway_double()
    driver = DRIVER.replace('print("settled", running.settle(7, 10), flush=True)', "")
    with container(double, driver=driver) as process:
        assert process.wait(20) == 0
    assert sorted(event.name for event in double.events if event.type == "artifact") == ["notes-7", "rows-7"]


def test_what_is_no_note_is_told_in_the_log_and_the_rest_goes_on(gateway_double, container):
    double = gateway_double()
    broken = json.dumps({"kind": "dance"})
    driver = f"(__import__('pathlib').Path(os.environ['FLAREGATE_OUTBOX']) / '0.json').write_text({broken!r})\n{DRIVER}"
    with container(double, driver=driver) as process:
        assert process.wait(20) == 0
    assert "something that running code has left was not kept" in double.log()
    assert len([event for event in double.events if event.type == "artifact"]) == 2
