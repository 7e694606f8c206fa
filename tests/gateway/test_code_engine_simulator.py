"""The Code Engine simulator: what it refuses as Code Engine does, how its instances live, its faults on demand."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from ibm_cloud_sdk_core import ApiException
from ibm_cloud_sdk_core.authenticators import IAMAuthenticator
from ibm_code_engine_sdk.code_engine_v2 import CodeEngineV2

from gateway.launchers.code_engine import SIZES
from gateway.launchers.code_engine_api import API_VERSION
from infra.code_engine.simulator import limits
from infra.code_engine.simulator.project import Pace
from tests.conftest import until
from tests.servers.code_engine import JOB, KEY, PROJECT, code_engine
from tests.servers.processes import free_ports

SLEEPS = "import time; time.sleep(600)"
SHOWS = "import json, os, sys; json.dump(dict(os.environ), open('shown', 'w'))"
FIRST = {"scale_cpu_limit": "0.125", "scale_memory_limit": "0.25G"}


@pytest.fixture
def simulator(tmp_path, request):
    with code_engine(tmp_path / "instances", **getattr(request, "param", {})) as simulator:
        simulator.program(SLEEPS)
        yield simulator


@pytest.fixture(scope="module")
def refusing(tmp_path_factory):
    """For what leaves nothing behind."""
    with code_engine(tmp_path_factory.mktemp("instances")) as simulator:
        yield simulator


def client_of(simulator):
    """IBM's client, as anybody would make it."""
    client = CodeEngineV2(authenticator=IAMAuthenticator(KEY, url=simulator.url), version=API_VERSION)
    client.set_service_url(f"{simulator.url}/v2")
    return client


@pytest.fixture
def api(simulator):
    return client_of(simulator)


@pytest.fixture
def door(simulator):
    with httpx.Client(base_url=f"{simulator.url}/_simulator", trust_env=False) as http:
        yield http


def create(api, **changes):
    size = {"scale_cpu_limit": "1", "scale_memory_limit": "4G"}
    return api.create_job_run(PROJECT, **{"job_name": JOB, "name": "r", **size} | changes).get_result()


def index(api, number=0, name="r"):
    return api.get_job_run(PROJECT, name).get_result()["status_details"]["indices_details"][str(number)]


def ended(api, number=0, name="r"):
    """The last word on an instance."""
    until(lambda: index(api, number, name)["status"] in ("succeeded", "failed"), 15)
    return index(api, number, name)


def code_of(refused):
    return refused.value.http_response.json()["errors"][0]["code"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"run_arguments": ["x" * limits.BODY_BYTES]}, "payload_too_large"),
        ({"name": "n" * 64}, "invalid_name"),
        ({"name": "Upper"}, "invalid_name"),
        ({"scale_cpu_limit": "3"}, "invalid_cpu_memory"),
        ({"scale_memory_limit": "1G"}, "invalid_cpu_memory"),
        ({"scale_memory_limit": "4GB"}, "invalid_size"),
        ({"scale_memory_limit": "4000000K"}, "invalid_size"),
        ({"scale_ephemeral_storage_limit": "400000K"}, "invalid_size"),
        ({"scale_ephemeral_storage_limit": "1Gi"}, "invalid_size"),
        ({"scale_ephemeral_storage_limit": "-1G"}, "invalid_size"),
        ({"scale_ephemeral_storage_limit": "5G"}, "invalid_storage"),
        ({"scale_array_spec": "0-1000"}, "invalid_array_spec"),
        ({"scale_array_spec": "10000000"}, "invalid_array_spec"),
        ({"scale_array_spec": "3-1"}, "invalid_array_spec"),
        ({"scale_array_spec": "all"}, "invalid_array_spec"),
        ({"scale_retry_limit": 6}, "invalid_scale"),
        ({"scale_retry_limit": "none"}, "invalid_field"),
        ({"scale_max_execution_time": 86401}, "invalid_scale"),
        ({"scale_max_execution_time": 0}, "invalid_scale"),
        ({"run_arguments": "text"}, "invalid_field"),
        ({"run_mode": "service"}, "invalid_run_mode"),
        ({"run_mode": "daemon", "scale_retry_limit": 0}, "invalid_run_mode"),
        ({"run_mode": "daemon", "scale_max_execution_time": 60}, "invalid_run_mode"),
        ({"image_secret": "s"}, "invalid_template_override"),
        ({"job_name": "another"}, "job_not_found"),
        ({"run_env_variables": [{"type": "secret_full_reference", "reference": "none"}]}, "invalid_reference"),
        ({"run_env_variables": [{"type": "config_map_key_reference", "reference": "none", "key": "k"}]}, "invalid_reference"),
        ({"run_env_variables": [{"type": "secret_key_reference", "reference": "held", "key": "none"}]}, "invalid_env_variable"),
        ({"run_env_variables": [{"type": "vault", "name": "a"}]}, "invalid_env_variable"),
        ({"run_env_variables": [{"type": "literal", "value": "b"}]}, "invalid_env_variable"),
        ({"run_volume_mounts": [{"type": "secret", "reference": "held", "mount_path": "/m"}]}, "not_simulated"),
    ],
)  # fmt: skip
def test_it_refuses_what_code_engine_refuses(refusing, changes, code):
    refusing.simulator.kept["secret"]["held"] = {"key": "value"}
    with pytest.raises(ApiException) as refused:
        create(client_of(refusing), **changes)
    assert (refused.value.status_code, code_of(refused)) == (404 if code == "job_not_found" else 400, code)


def test_it_takes_what_is_just_within_the_limits(api, simulator):
    simulator.command("true")
    create(api, name="n" * 63, scale_array_spec="0-3,7,9999999", scale_retry_limit=5, scale_max_execution_time=86400)
    body = json.dumps(
        {"job_name": JOB, "name": "r", "scale_cpu_limit": "1", "scale_memory_limit": "4G", "run_arguments": [""]}
    )
    create(api, run_arguments=["x" * (limits.BODY_BYTES - len(body))])
    create(api, name="small", scale_cpu_limit="0.125", scale_memory_limit="0.25G")  # with the default of the disk
    listed = api.list_job_runs(PROJECT, limit=1).get_result()
    assert len(listed["job_runs"]) == 1
    assert api.list_job_runs(PROJECT, limit=1, start=listed["next"]["start"]).get_result()["job_runs"][0]["name"] == "r"


def test_its_sizes_are_the_launchers():
    assert [(float(cpus), int(size * 1e9)) for cpus, sizes in limits.SIZES.items() for size in sizes] == list(SIZES)


def test_requests_that_cannot_be_read_get_an_answer_of_the_apis_form(api, simulator):
    token = api.authenticator.token_manager.get_token()
    shown = {"headers": {"Authorization": f"Bearer {token}"}, "params": {"version": API_VERSION}}
    with httpx.Client(base_url=f"{simulator.url}/v2/projects/{PROJECT}", trust_env=False, **shown) as http:
        for path in ("/job_runs", "/jobs", "/secrets"):
            for body in ("no json", "[]", '{"name": 3}'):
                answer = http.post(path, content=body)
                assert answer.status_code == 400, (path, body)
                assert answer.json()["errors"][0]["code"]
        for wrong in ({"start": "none"}, {"limit": "many"}, {"limit": "0"}, {"limit": "101"}):
            answer = http.get("/job_runs", params={"version": API_VERSION} | wrong)
            assert (answer.status_code, *wrong) == (
                400,
                *(one for one in wrong if one in answer.json()["errors"][0]["message"]),
            )
        assert http.get("/job_runs", params={"version": "2024-01-01"}).status_code == 400
        assert http.post("/domain_mappings", json={}).status_code == 404


def test_a_name_is_taken_until_its_run_has_ended(api, simulator):
    create(api)
    with pytest.raises(ApiException) as refused:
        create(api)
    assert (refused.value.status_code, code_of(refused)) == (409, "job_run_already_exists")
    api.delete_job_run(PROJECT, "r")
    assert api.list_job_runs(PROJECT).get_result()["job_runs"] == []

    def free():
        try:
            return create(api)
        except ApiException as refused:
            return refused.status_code != 409

    assert until(free, 10)["name"] == "r"


def test_instances_have_the_platforms_variables_and_cannot_replace_them(api, simulator, tmp_path):
    simulator.program(SHOWS)
    api.create_secret(PROJECT, format="generic", name="held", data={"A": "1", "B": "2"})
    api.create_config_map(PROJECT, name="known", data={"C": "3"})
    variables = [
        {"type": "literal", "name": "JOB_INDEX", "value": "99"},
        {"type": "literal", "name": "CE_REGION", "value": "mars"},
        {"type": "literal", "name": "HOSTNAME", "value": "mine"},
        {"type": "literal", "name": "OWN", "value": "x"},
        {"type": "secret_full_reference", "reference": "held", "prefix": "P_"},
        {"type": "config_map_key_reference", "reference": "known", "key": "C", "name": "D"},
    ]
    create(api, scale_array_spec="2,5", run_env_variables=variables, scale_array_size_variable_override=7)
    assert ended(api, 5)["status"] == "succeeded"
    shown = json.loads((tmp_path / "instances" / "r-5-0" / "shown").read_text())
    assert {
        "JOB_INDEX": "5", "JOB_ARRAY_SIZE": "7", "JOB_INDEX_RETRY_COUNT": "0", "JOB_RETRY_LIMIT": "3", "JOB_MODE": "task",
        "CE_JOB": JOB, "CE_JOBRUN": "r", "CE_REGION": "us-south", "HOSTNAME": "r-5-0", "OWN": "x", "P_A": "1", "P_B": "2", "D": "3",
    }.items() <= shown.items()  # fmt: skip
    create(api, name="d", run_mode="daemon")
    assert ended(api, name="d")["status"] == "succeeded"
    shown = json.loads((tmp_path / "instances" / "d-0-0" / "shown").read_text())
    assert (shown["JOB_MODE"], "JOB_RETRY_LIMIT" in shown) == ("daemon", False)


def test_retries_are_counted_and_daemons_are_started_again_for_ever(api, simulator):
    simulator.program("raise SystemExit(3)")
    create(api, scale_retry_limit=1)
    seen = ended(api)
    assert (seen["status"], seen["retries"], seen["last_failure_reason"]) == ("failed", 1, "ContainerExitedCode3")
    create(api, name="d", run_mode="daemon")
    until(lambda: index(api, name="d")["retries"] > limits.RETRIES[1], 15)


def test_a_finished_run_is_forgotten_after_a_week_and_not_before(api, simulator, door):
    simulator.program("pass")
    create(api)
    ended(api)
    door.post("/clock", json={"forward": limits.KEPT_SECONDS - 60})
    api.authenticator = IAMAuthenticator(KEY, url=simulator.url)  # the token has expired long ago
    assert index(api)["status"] == "succeeded"
    door.post("/clock", json={"forward": 60})
    until(lambda: not api.list_job_runs(PROJECT).get_result()["job_runs"], 5)
    assert door.post("/clock", json={"forward": "a week"}).status_code == 400


@pytest.mark.platforms
@pytest.mark.parametrize("simulator", [{"pace": Pace(pull=0.6)}], indirect=True)
def test_the_image_is_pulled_at_the_users_cost_and_waiting_is_not(api, simulator, door):
    simulator.program("pass")
    door.post("/faults", json={"late": {"1": 3}})
    create(api, scale_array_spec="0-1", scale_cpu_limit="2", scale_memory_limit="8G")
    ended(api, 1)
    ended(api, 0)
    bill = door.get("/bill").json()
    assert 2 * 2 * 0.6 < bill["vcpu_seconds"] < 2 * 2 * 0.6 + 2 * 2.9
    assert bill["gb_seconds"] == pytest.approx(4 * bill["vcpu_seconds"])


@pytest.mark.platforms
def test_a_run_that_takes_too_long_is_ended(api, simulator):
    create(api, scale_max_execution_time=1, scale_retry_limit=0)
    assert ended(api)["last_failure_reason"] == "DeadlineExceeded"


EATS = "x = bytearray(600_000_000); import time; time.sleep(600)"
SHARED = (
    "import os, subprocess, sys, time; "
    f"[subprocess.Popen([sys.executable, '-c', 'import os; os.setsid(); x = bytearray(150_000_000); ' + {SLEEPS!r}])"
    " for _ in range(3)]; open('children', 'w').write('x'); time.sleep(600)"
)


@pytest.mark.parametrize("program", [EATS, SHARED], ids=["one", "many"])
def test_more_memory_than_was_asked_for_ends_an_instance_with_all_that_came_from_it(api, simulator, tmp_path, program):
    simulator.program(program)
    create(api, **FIRST, scale_retry_limit=0)
    assert ended(api)["last_failure_reason"] == "OOMKilled"
    assert _in(tmp_path) == []


@pytest.mark.platforms
def test_what_is_shared_counts_once(api, simulator):
    simulator.program("import os, time; x = bytearray(100_000_000); [os.fork() for _ in range(2)]; time.sleep(1.5)")
    create(api, **FIRST, scale_retry_limit=0)
    assert ended(api)["status"] == "succeeded"


@pytest.mark.parametrize(
    ("program", "reason"),
    [("import os; os.kill(os.getpid(), 9)", "ContainerExitedCode137"), ("raise SystemExit(137)", "ContainerExitedCode137")],
)  # fmt: skip
def test_who_was_killed_otherwise_was_not_out_of_memory(api, simulator, program, reason):
    simulator.program(program)
    create(api, scale_retry_limit=0)
    assert ended(api)["last_failure_reason"] == reason


def test_nothing_outlives_an_instance(api, simulator, tmp_path):
    child = f"import os; os.setsid(); {SLEEPS}"
    simulator.program(
        f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(0.5)"
    )
    create(api)
    assert ended(api)["status"] == "succeeded"
    until(lambda: _in(tmp_path) == [], 5)


def test_a_command_that_is_not_there_is_a_failure_and_others_go_on(api, simulator):
    create(api, run_commands=["no-such-command"], scale_retry_limit=0)
    assert ended(api)["last_failure_reason"] == "ContainerCannotRun"
    simulator.program("pass")
    create(api, name="next")
    assert ended(api, name="next")["status"] == "succeeded"


@pytest.mark.platforms
def test_instances_that_start_late_never_die_or_are_started_again(api, door):
    def fault(**asked):
        assert door.post("/faults", json=asked).status_code == 200

    fault(late={"1": 0.8})
    create(api, scale_array_spec="0-1")
    until(lambda: index(api)["status"] == "running", 5)
    assert index(api, 1)["status"] == "pending"
    until(lambda: index(api, 1)["status"] == "running", 5)
    fault(late={}, instances=["restart"])
    until(lambda: index(api)["retries"] == 1, 5)
    assert (index(api)["status"], index(api, 1)["retries"]) == ("running", 0)
    fault(instances=["never"])
    create(api, name="n")
    fault(instances=["no_image"])
    create(api, name="i")
    until(lambda: index(api, name="i").get("last_failure_reason") == "ImagePullBackOff", 5)
    assert index(api, name="i")["status"] == "pending"
    fault(instances=["die"])
    create(api, name="d", scale_retry_limit=0)
    assert ended(api, name="d")["last_failure_reason"] == "ContainerExitedCode1"
    assert ended(api, name="i")["status"] == "failed"


def test_answers_that_are_wrong_on_demand(api, simulator, door):
    create(api)
    for asked, status in (
        ({"unauthorized": 1}, 401),
        ({"forbidden": 1}, 403),
        ({"too_many": 1, "retry_after": "7"}, 429),
        ({"broken": 1}, 500),
    ):
        assert door.post("/faults", json=asked).status_code == 200
        with pytest.raises(ApiException) as refused:
            api.get_job_run(PROJECT, "r")
        assert refused.value.status_code == status
        assert refused.value.http_response.headers.get("Retry-After") == ("7" if status == 429 else None)
    door.post("/faults", json={"expire": True})
    with pytest.raises(ApiException, match="expired"):
        api.get_job_run(PROJECT, "r")
    api.authenticator = IAMAuthenticator(KEY, url=simulator.url)
    door.post("/clock", json={"forward": limits.TOKEN_SECONDS + 1})
    api.get_job_run(PROJECT, "r")
    door.post("/faults", json={"no_status": 1, "slow": 0.3})
    began = time.monotonic()
    assert "status" not in api.get_job_run(PROJECT, "r").get_result()
    assert time.monotonic() - began >= 0.3
    for wrong in ({"sloth": 1}, {"slow": "very"}, {"instances": ["fly"]}, {"next": ["none", "fly"]}, {"late": [1]}):
        assert door.post("/faults", json=wrong).status_code == 400, wrong


@pytest.mark.platforms
def test_lists_that_lag_behind(api, door):
    assert door.post("/pace", json={"visible": 0.6}).json()["visible"] == 0.6
    create(api)
    assert api.list_job_runs(PROJECT).get_result()["job_runs"] == []
    until(lambda: api.list_job_runs(PROJECT).get_result()["job_runs"], 5)
    api.delete_job_run(PROJECT, "r")
    assert api.list_job_runs(PROJECT).get_result()["job_runs"] != []
    until(lambda: not api.list_job_runs(PROJECT).get_result()["job_runs"], 5)
    assert door.post("/pace", json={"speed": 1}).status_code == 400


def test_its_bill_and_its_requests_can_be_read(api, simulator, door):
    simulator.program("pass")
    create(api)
    ended(api)
    bill = door.get("/bill").json()
    assert (bill["living"], list(bill["runs"])) == (0, ["r"])
    assert f"POST /v2/projects/{PROJECT}/job_runs" in door.get("/requests").json()


def test_started_alone_it_ends_with_all_its_instances(tmp_path):
    (port,) = free_ports(1)
    command = [
        sys.executable,
        "-m",
        "infra.code_engine.simulator",
        "--port",
        str(port),
        "--logs",
        str(tmp_path / "logs"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert str(port) in process.stdout.readline()
        client = CodeEngineV2(
            authenticator=IAMAuthenticator("simulated", url=f"http://127.0.0.1:{port}"), version=API_VERSION
        )
        client.set_service_url(f"http://127.0.0.1:{port}/v2")
        client.enable_retries(max_retries=5, retry_interval=0.2)
        project = "00000000-0000-0000-0000-000000000000"
        until(lambda: _answers(port), 10)
        client.create_job_run(project, job_name=JOB, name="r", run_commands=["sh", "-c", "echo $$ > pid; sleep 600"])
        pid = tmp_path / "logs" / "r-0-0" / "pid"
        until(lambda: pid.exists() and pid.read_text().strip(), 10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _in(folder):
    """Processes that work in a folder: what instances start does so in theirs."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append(process.name)
    return found


def _answers(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/_simulator/bill", trust_env=False).is_success
    except httpx.HTTPError:
        return False
