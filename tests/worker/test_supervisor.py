"""A container from its order to its end, with a driver and a Ray that the test wrote; real processes, real HTTP."""

import json
import signal
import subprocess
import time

from flaregate_wire.attempts import EventBatch, Slots
from tests.worker.conftest import descendants_of, until
from tests.worker.gateway_double import BOOTSTRAP


def test_the_whole_way_of_a_head(gateway_double, container):
    double = gateway_double(blobs=[b"x" * 3_000_000, b"y"])
    driver = """
assert address == "127.0.0.1:1"
sizes = sorted(len(open(path, "rb").read()) for path in work["blobs"].values())
print("sizes", sizes)
progress(1); progress(2)
path = work["scratch"] + "/fitted"
open(path, "wb").write(b"z" * 2_000_000)
finish(result={"outcomes": 1, "failed": 0}, artifacts=[{"name": "best", "path": path, "media_type": "a/b"}])
"""
    with container(double, driver=driver) as process:
        assert process.wait(20) == 0
        assert descendants_of(process.pid) == []
    manifest = double.manifest
    assert (manifest.succeeded, manifest.reason, manifest.message) == (True, None, None), manifest
    assert manifest.result.outcomes == 1
    (artifact,) = manifest.artifacts
    assert (artifact.name, artifact.size, double.objects[artifact.key]) == ("best", 2_000_000, b"z" * 2_000_000)
    assert double.log() == "sizes [1, 3000000]\n"
    assert manifest.log_tail == ("sizes [1, 3000000]",)
    assert [event.done for event in double.events if event.type == "progress"] == [1, 2]
    assert double.phases()[0] == "booted"
    assert set(double.phases()) == {"booted", "inputs_ready", "ray_ready"}
    assert double.head.address == "127.0.0.1:1"


def test_no_credential_of_the_gateway_reaches_the_driver(gateway_double, container):
    double = gateway_double()
    driver = "print(dict(os.environ)); finish()"
    with container(double, driver=driver, RAY_ADDRESS="elsewhere:1") as process:
        assert process.wait(20) == 0
    assert "canary" not in double.log()
    assert "elsewhere" not in double.log()
    assert "'RAY_AUTH_MODE': 'token'" in double.log()


def test_the_last_line_before_the_driver_kills_itself_is_there(gateway_double, container):
    double = gateway_double()
    driver = "print('first'); print('the last line', end=''); os.kill(os.getpid(), 9)"
    with container(double, driver=driver) as process:
        assert process.wait(20) == 0
    assert double.log() == "first\nthe last line"
    assert double.manifest.log_tail == ("first", "the last line")
    assert (double.manifest.succeeded, double.manifest.reason) == (False, "user_error")
    assert "signal 9 (SIGKILL)" in double.manifest.message


def test_a_driver_that_exits_is_told_with_its_code(gateway_double, container):
    double = gateway_double()
    with container(double, driver="sys.exit(7)") as process:
        assert process.wait(20) == 0
    assert "exited with code 7" in double.manifest.message


def test_an_input_that_is_not_what_its_digest_says_ends_the_job(gateway_double, container):
    double = gateway_double(blobs=[b"right"])
    double.blobs = dict.fromkeys(double.blobs, b"wrong")
    with container(double) as process:
        assert process.wait(20) == 0
    assert (double.manifest.succeeded, double.manifest.reason) == (False, "stage_in_failed")


def test_a_ray_that_does_not_start_is_told_with_its_last_lines(gateway_double, container):
    double = gateway_double()
    with container(double, ray="print('no room for Ray'); raise SystemExit(3)") as process:
        assert process.wait(20) == 0
    assert double.manifest.reason == "platform_error"
    assert "exit code 3" in double.manifest.message
    assert "no room for Ray" in double.manifest.message


def test_a_gateway_that_is_away_for_some_seconds_misses_nothing(gateway_double, container):
    double = gateway_double()
    driver = "\nfor i in range(400): progress(i); print('line', i); time.sleep(0.01)\nfinish()"
    with container(double, driver=driver) as process:
        until(lambda: len(double.events) > 20)
        double.go_away()
        time.sleep(3)
        double.start()
        assert process.wait(30) == 0
    assert [event.done for event in double.events if event.type == "progress"] == list(range(400))
    assert double.log() == "".join(f"line {i}\n" for i in range(400))
    assert double.manifest.succeeded


def test_a_container_boots_though_the_gateway_comes_later(gateway_double, container):
    double = gateway_double()
    double.go_away()
    with container(double) as process:
        time.sleep(1.5)
        double.start()
        assert process.wait(20) == 0
    assert double.manifest.succeeded


def test_one_lease_without_an_answer_ends_everything(gateway_double, container):
    double = gateway_double(lease=2.0)
    with container(double, driver="time.sleep(600)") as process:
        until(lambda: "ray_ready" in double.phases())
        double.go_away()
        gone = time.monotonic()
        assert process.wait(20) == 3
        assert 1.5 < time.monotonic() - gone < 5
        assert descendants_of(process.pid) == []
        double.start()


def test_who_has_lost_its_gateway_leaves_its_log_in_the_store(gateway_double, container, tmp_path):
    double, store = gateway_double(lease=2.0), gateway_double()
    logs = [(key, store.signed(key)) for key in ("a", "b", "c", "d")]
    double.spill = Slots(put=[store.signed("events")], logs=logs, seconds=900)
    gone = tmp_path / "gone"
    driver = f"""
print("before", flush=True)
while not os.path.exists({str(gone)!r}):
    time.sleep(0.01)
print("after", flush=True)
time.sleep(600)
"""
    with container(double, driver=driver) as process:
        until(double.log)
        double.go_away()
        gone.touch()
        assert process.wait(10) == 3
    double.objects |= store.objects
    batches = [EventBatch.model_validate_json(line) for line in store.objects["events"].splitlines()]
    had = double.next["token-canary-0"] - batches[0].first
    double.events += [event for batch in batches for event in batch.events][had:]
    assert double.log() == "before\nafter\n"


def test_the_lease_is_renewed_while_nothing_happens(gateway_double, container):
    double = gateway_double(lease=1.0)
    with container(double, driver="time.sleep(2.5); finish()") as process:
        assert process.wait(20) == 0
    assert double.batches["token-canary-0"] >= 8
    assert double.manifest.succeeded


def test_cancel_lets_the_driver_say_goodbye_and_commits_nothing(gateway_double, container):
    double = gateway_double(lease=1.0)
    driver = """
import signal
def bye(*_):
    print("goodbye"); sys.exit(0)
signal.signal(signal.SIGTERM, bye)
print("ready"); time.sleep(600)
"""
    with container(double, driver=driver) as process:
        until(lambda: "ready" in double.log())
        double.cancel = True
        assert process.wait(10) == 0
        assert descendants_of(process.pid) == []
    assert double.log() == "ready\ngoodbye\n"
    assert double.manifest is None


def test_sigterm_ends_code_that_ignores_it(gateway_double, container):
    double = gateway_double()
    driver = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(600)"
    with container(double, driver=driver) as process:
        until(lambda: "deaf" in double.log())
        process.send_signal(signal.SIGTERM)
        assert process.wait(12) == 0
        assert descendants_of(process.pid) == []
    assert double.manifest is None


def test_an_attempt_that_is_over_ends_its_container_at_once(gateway_double, container):
    double = gateway_double(lease=1.0)
    with container(double, driver="time.sleep(600)") as process:
        until(lambda: "ray_ready" in double.phases())
        double.over = True
        assert process.wait(5) == 0
        assert descendants_of(process.pid) == []


def test_killing_either_first_process_ends_the_other_and_all_below(gateway_double, container):
    """Also what has moved to a session of its own and lost its parent."""
    import psutil

    driver = "import subprocess; p = subprocess.Popen(['sh', '-c', 'setsid sleep 600 & echo $!']); time.sleep(600)"
    for victim in ("keeper", "supervisor"):
        double = gateway_double()
        with container(double, driver=driver) as process:
            until(double.log)
            stray = psutil.Process(int(double.log()))
            keeper = psutil.Process(process.pid)
            (supervisor,) = keeper.children()
            (keeper if victim == "keeper" else supervisor).kill()
            process.wait(5)
            until(lambda: descendants_of(process.pid) == [], 3)
            stray.wait(3)


def test_output_reaches_a_reader_within_a_second_and_a_chatty_job_makes_few_segments(gateway_double, container):
    double = gateway_double()
    driver = "\nprint('begun at', time.time())\ntime.sleep(1)\nfor i in range(3000): print('x' * 100); time.sleep(0.001)\nfinish()"
    with container(double, driver=driver) as process:
        until(double.log)
        assert time.time() - float(double.log().split()[2]) < 0.6
        assert process.wait(30) == 0
    assert len(double.log()) > 300_000
    assert sum(event.type == "log" for event in double.events) < 12


def test_an_event_with_files_is_told_when_they_are_in_the_store_and_holds_up_no_other(gateway_double, container):
    double = gateway_double()
    driver = """
path = work["scratch"] + "/output"
open(path, "wb").write(b"z" * 5_000_000)
cell = {"type": "metrics", "time": "2026-01-01T00:00:00Z", "attempt": 1, "candidate": 3, "step": 1, "values": {"a": 1}}
report({"type": "event", "event": cell, "artifacts": [{"name": "cell-3", "path": path, "media_type": "a/b"}]})
progress(1)
finish()
"""
    with container(double, driver=driver) as process:
        assert process.wait(20) == 0
    assert double.manifest.succeeded
    kinds = [event.type for event in double.events if event.type in ("artifact", "metrics", "progress")]
    assert kinds == ["progress", "artifact", "metrics"]
    (kept,) = [event for event in double.events if event.type == "artifact"]
    assert (kept.name, double.objects[kept.key]) == ("cell-3", b"z" * 5_000_000)


def test_an_event_whose_files_cannot_be_stored_fails_the_job(gateway_double, container):
    double = gateway_double()
    driver = """
event = {"type": "progress", "time": "2026-01-01T00:00:00Z", "attempt": 1, "done": 1, "total": 1}
report({"type": "event", "event": event, "artifacts": [{"name": "x", "path": "/nowhere/to/be/found", "media_type": "a/b"}]})
finish()
"""
    with container(double, driver=driver) as process:
        assert process.wait(20) == 0
    assert (double.manifest.succeeded, double.manifest.reason) == (False, "commit_failed")
    assert not [event for event in double.events if event.type == "progress"]


def test_the_driver_alone_is_told_how_to_reach_the_gateway(gateway_double, container):
    double = gateway_double()
    driver = "print(work['gateway']['attempt'], work['gateway']['token'], work['job'], work['last']); finish()"
    with container(double, driver=driver) as process:
        assert process.wait(20) == 0
    assert double.log() == f"{double.attempt} token-canary-0 j True\n"


def test_a_head_that_may_wait_parks_after_its_commit_and_takes_the_next_attempt(gateway_double, container, tmp_path):
    double, following = gateway_double(warm=60), gateway_double(warm=60)
    place = tmp_path / "parked"
    driver = """
while True:
    print("job at", work["cluster"]["cpus"], "last", work["last"], os.getpid())
    progress(1)
    finish()
    work = json.loads(sys.stdin.readline())
"""
    with container(double, driver=driver, stdin=subprocess.PIPE, FLAREGATE_PARK=str(place)) as process:
        until(place.exists)
        assert double.manifest.succeeded
        assert process.poll() is None
        place.unlink()
        job = {"url": following.url, "attempt": following.attempt, "index": 0, "bootstrap": BOOTSTRAP}
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
        until(place.exists)
        assert following.manifest.succeeded
        assert following.log() == double.log() != ""
        assert following.phases()[0] == "booted"
        process.stdin.close()
        assert process.wait(10) == 0
        assert descendants_of(process.pid) == []
        assert not place.exists()


def test_a_head_that_waits_ends_when_it_is_asked_to_or_when_its_driver_does(gateway_double, container, tmp_path):
    for way in ("asked", "driver"):
        double = gateway_double(warm=60)
        place = tmp_path / way
        driver = "finish(); time.sleep(600)" if way == "asked" else "finish(); time.sleep(0.5)"
        with container(double, driver=driver, stdin=subprocess.PIPE, FLAREGATE_PARK=str(place)) as process:
            until(place.exists)
            if way == "asked":
                process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert not place.exists()
            assert descendants_of(process.pid) == []
            process.stdin.close()
