"""The client against a gateway in memory: staging, retries, streams that are cut, errors, results; both clients alike."""

import asyncio
import inspect
import math

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, ShuffleSplit, StratifiedKFold
from sklearn.tree import DecisionTreeClassifier

import flaregate as fg
from flaregate import fitted
from flaregate.client import Client, Job
from flaregate.errors import CLASSES, error_for
from flaregate.transport.links import AsyncLink, Link
from flaregate.transport.streams import PATIENCE, Following
from flaregate_wire.definitions import Code as CodeModel
from flaregate_wire.definitions import Splits
from flaregate_wire.problems import RETRYABLE, STATUS, Code, Fault, Problem
from tests.sdk.double import NOW, URL, Double, end, outcome, problem

X = np.arange(24.0).reshape(12, 2)
Y = np.array([0, 1] * 6)
EVENTS = [outcome(1, 1), outcome(2, 0), outcome(3, 2), end(4)]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    import stamina

    stamina.set_testing(True, attempts=6)
    yield
    stamina.set_testing(False)


def client_of(double):
    client = Client(URL, "secret", transport=double.transport)
    client.link = Link(URL, "secret", transport=double.transport, sleep=lambda seconds: None)
    return client


def tree():
    pipe = fg.Pipeline("small")
    pipe.node("tree", DecisionTreeClassifier(random_state=0))
    return pipe


def submitted(double, **options):
    given = {"X": X, "y": Y, "axes": {("tree", "max_depth"): [1, 2, 3]}, "cv": 2, **options}
    return client_of(double).submit(tree(), **given)


def test_only_what_is_missing_is_uploaded_and_without_the_token():
    double = Double()
    submitted(double)
    first = double.paths()
    assert sum(path.startswith("PUT") for path in first) == 2
    submitted(double)
    assert sum(path.startswith("PUT") for path in double.paths()) == 2
    assert double.definition.inputs["X"].shape == (12, 2)


def test_an_upload_that_is_cut_is_sent_again_from_the_start():
    double = Double(faults=[None, httpx.WriteError("cut"), None, None, None])
    submitted(double)
    assert len(double.blobs) == 2


@pytest.mark.parametrize(
    "fault",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("silent"),
        httpx.RemoteProtocolError("half an answer"),
        problem("unavailable", **{"retry-after": "0"}),
        problem("internal"),
        problem("idempotency_in_flight"),
        httpx.Response(502, text="bad gateway"),
        httpx.Response(429, headers={"retry-after": "0"}),
    ],
    ids=repr,
)
def test_passing_faults_are_tried_again_with_the_same_key(fault):
    double = Double()
    job = submitted(double)
    double.faults = [None, None, fault, fault]
    assert submitted(double, idempotency_key="mine").id == job.id
    posts = [request for request in double.requests if request.url.path == "/v1/jobs"][1:]
    assert [request.headers["idempotency-key"] for request in posts] == ["mine"] * 3
    assert len({request.content for request in posts}) == 1


def test_without_a_key_of_the_user_one_is_made_and_kept_over_retries():
    double = Double(faults=[None] * 6 + [httpx.ReadError("lost")])
    submitted(double)
    keys = [request.headers["idempotency-key"] for request in double.requests if request.url.path == "/v1/jobs"]
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_a_gateway_that_stays_away_is_unavailable():
    double = Double(faults=[httpx.ConnectError("refused")] * 20)
    with pytest.raises(fg.GatewayUnavailable, match=r"gateway\.test.*refused") as caught:
        client_of(double).jobs()
    assert caught.value.retryable


@pytest.mark.parametrize("code", list(Code))
def test_every_code_of_the_gateway_has_its_class_here(code):
    assert code in CLASSES
    fault = Fault(pointer="/x", rule="r", message="about 'svc'")
    made = error_for(Problem(title="t", status=STATUS[code], detail="d", code=code, errors=(fault,)))
    assert type(made) is CLASSES[code]
    assert "about 'svc'" in str(made)
    if isinstance(made, fg.Refused):
        assert (made.code, made.errors) == (code, (fault,))
    double = Double(faults=[problem(code) for _ in range(10)])
    with pytest.raises(CLASSES[code]):
        client_of(double).jobs()
    assert (len(double.requests) > 1) == (code in RETRYABLE)


def test_answers_that_are_no_answers_of_a_gateway_are_said_to_be():
    for response in (httpx.Response(200, text="<html>"), httpx.Response(404, text="not here")):
        with pytest.raises(fg.FlaregateError, match=r"gateway\.test"):
            client_of(Double(faults=[response])).jobs()


def test_a_missing_job_is_refused():
    with pytest.raises(fg.Refused) as caught:
        client_of(Double()).job("job-none")
    assert caught.value.code == "not_found"


@given(cuts=st.lists(st.integers(0, 2000), max_size=8))
def test_a_stream_that_is_cut_anywhere_gives_each_event_once(cuts):
    double = Double(EVENTS, cuts=cuts)
    seen = list(Job(client_of(double), "job-1").events())
    assert [event.id for event in seen] == [1, 2, 3, 4]
    again = [event.model_dump() for event in Job(client_of(Double(EVENTS)), "job-1").events()]
    assert [event.model_dump() for event in seen] == again


def test_events_after_an_id_and_of_unknown_types():
    new = {"id": 2, "type": "dance", "time": NOW}
    double = Double([outcome(1, 0), new, outcome(3, 1), end(4)])
    assert [event.id for event in Job(client_of(double), "job-1").events()] == [1, 3, 4]
    assert [event.id for event in Job(client_of(double), "job-1").events(after=3)] == [4]


def test_a_reader_goes_on_over_a_gateway_that_is_away_for_a_while():
    double = Double(EVENTS, faults=[httpx.ConnectError("refused")] * 5 + [problem("unavailable")])
    assert len(list(Job(client_of(double), "job-1").events())) == 4


def test_a_reader_gives_up_at_last():
    double = Double(EVENTS, faults=[httpx.ConnectError("refused")] * 1000)
    with pytest.raises(fg.GatewayUnavailable):
        list(Job(client_of(double), "job-1").events())
    assert len(double.requests) > PATIENCE / 5


def test_a_reader_waits_longer_each_time_and_anew_after_an_event():
    following = Following("job-1")
    waits = [following.pause(None) for _ in range(10)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (0.1, 5.0)


def test_outcomes_come_in_order_of_arrival_with_the_users_own_keys_and_values():
    job = submitted(Double(EVENTS))
    outcomes = list(job.outcomes())
    assert [item.candidate for item in outcomes] == [1, 0, 2]
    assert outcomes[0].axes == {("tree", "max_depth"): 2}
    assert outcomes[0].scores["score"].tolist() == [0.5, 0.6]


def test_a_result_is_in_candidate_order_and_has_a_table_like_cv_results():
    double = Double([*EVENTS[:1], outcome(9, 0, mean={"$float": "nan"}), *EVENTS[1:]])
    result = submitted(double).result()
    assert [item.candidate for item in result.outcomes] == [0, 1, 2]
    assert result.best.axes == {("tree", "max_depth"): 3}
    table = result.table()
    assert table["mean_test_score"].tolist() == pytest.approx([0.5, 0.55, 0.6])
    assert table["rank_test_score"].tolist() == [3, 2, 1]
    assert table["split1_test_score"].tolist() == [0.5, 0.6, 0.7]
    assert table["param_tree__max_depth"].tolist() == [1, 2, 3]
    assert table["params"][2] == {"tree__max_depth": 3}
    assert table["mean_fit_time"].tolist() == pytest.approx([0.1] * 3)


def test_equal_means_share_the_better_rank_and_the_first_is_best():
    same = [outcome(number + 1, number, mean=0.7, scores={"score": [0.7, 0.7]}) for number in range(3)]
    result = submitted(Double([*same, end(4)])).result()
    assert result.best.candidate == 0
    assert result.table()["rank_test_score"].tolist() == [1, 1, 1]


def test_another_process_knows_a_job_by_its_id():
    double = Double(EVENTS)
    submitted(double, axes={"tree__max_depth": [1, 2, 3]})
    result = client_of(double).job("job-1").result()
    assert result.best.axes == {"tree__max_depth": 3}


def test_several_fitted_pipelines_have_no_best():
    double = Double([outcome(1, 0, mean=None), outcome(2, 1, mean=None), end(3)], view={"action": "fit"})
    result = client_of(double).job("job-1").result()
    with pytest.raises(fg.AmbiguousBest, match="training scores"):
        _ = result.best


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        ("failed", "user_error", fg.JobFailed),
        ("cancelled", "cancelled_by_user", fg.JobCancelled),
        ("timed_out", "timeout", fg.JobTimedOut),
    ],
)
def test_a_job_that_ended_otherwise_raises_with_what_there_is(state, reason, expected):
    failed = {"type": "ValueError", "message": "no luck", "traceback": "Traceback …\nValueError: no luck"}
    double = Double([outcome(1, 0, error=failed), end(2, state)], view={"state": state, "reason": reason})
    job = client_of(double).job("job-1")
    with pytest.raises(expected, match="no luck") as caught:
        job.result()
    assert caught.value.reason == reason
    assert caught.value.job is job
    assert len(caught.value.result.outcomes) == 1
    assert job.wait().state == state


def test_waiting_polls_until_the_end_and_no_longer_than_told():
    double = Double(EVENTS)
    job = submitted(double)
    double.running = 3
    assert job.wait().state == "succeeded"
    assert double.requests[-1].url.params["until"] == "done"
    double.running = 10**6
    with pytest.raises(TimeoutError, match="job-1 is running"):
        job.wait(timeout=0)


def test_warnings_of_tasks_are_given_once():
    told = {"category": "sklearn.exceptions:ConvergenceWarning", "message": "did not converge"}
    events = [outcome(number, number, warnings=[told]) for number in (1, 2)]
    job = submitted(Double([*events, end(3)]))
    with pytest.warns(Warning, match="did not converge") as caught:
        job.result()
    assert [warning.category.__name__ for warning in caught] == ["ConvergenceWarning"]
    job.result()


def test_the_best_pipeline_is_downloaded_checked_and_loaded(tmp_path):
    scores = {"outcomes": 3, "failed": 0, "best": 2}
    double = Double(EVENTS, view={"result": scores})
    fitted.write(tmp_path / "p.zip", [fitted.FittedNode("tree", "estimator", (), DecisionTreeClassifier().fit(X, Y))])
    data = (tmp_path / "p.zip").read_bytes()
    double.artifacts["best"] = data
    served = []

    def store(request):
        if request.url.host != "store.test":
            return double(request)
        assert "authorization" not in request.headers
        served.append(request)
        if len(served) == 1:
            raise httpx.ReadError("cut")
        return httpx.Response(200, content=data)

    client = client_of(double)
    client.link = Link(URL, "secret", transport=httpx.MockTransport(store), sleep=lambda seconds: None)
    job = client.submit(tree(), X=X, y=Y, axes={"tree__max_depth": [1, 2, 3]})
    result = job.result()
    assert result.best.pipeline().predict(X).tolist() == Y.tolist()
    with pytest.raises(fg.NoArtifact, match="refit"):
        result.outcomes[0].pipeline()
    with pytest.raises(fg.NoArtifact, match="'best'"):
        job.download("nope", tmp_path / "nope")
    data = b"other bytes"
    with pytest.raises(fg.GatewayUnavailable, match="damaged"):
        job.download("best", tmp_path / "best.zip")
    assert not (tmp_path / "best.zip").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"axes": {"tree__max_dept": [1]}}, "did you mean 'max_depth'"),
        ({"axes": {"tre__max_depth": [1]}}, "did you mean 'tree'"),
        ({"y": Y[:-1]}, "X has 12, y has 11"),
        ({"X": None}, "'X' is missing"),
        ({"y": None}, "'y' is missing"),
        ({"action": "dance"}, "action"),
        ({"cv": "five"}, "cv is 'five'"),
        ({"cv": 1}, "2 folds"),
        ({"cv": []}, "no folds"),
        ({"cv": [1, 2]}, "cannot be made"),
        ({"scoring": 3}, "scoring is 3"),
        ({"scoring": ["accuracy", "f1"]}, "'refit' must name"),
        ({"min_workers": 3, "workers": 1}, "min_workers"),
        ({"timeout": -1}, "timeout"),
        ({"max_cost": "much"}, "max_cost"),
        ({"labels": {"": "x"}}, "labels"),
        ({"cv": object()}, "cv is"),
    ],
)
def test_what_is_refused_before_anything_is_sent(options, words):
    double = Double()
    with pytest.raises(fg.Refused, match=words) as caught:
        submitted(double, **options)
    assert caught.value.code
    assert not double.requests


def test_unknown_options_are_no_options():
    with pytest.raises(TypeError, match="workerz"):
        submitted(Double(), workerz=3)


def test_folds_that_would_differ_if_made_twice_are_made_once_here():
    double = Double()
    submitted(double, cv=StratifiedKFold(3, shuffle=True, random_state=1))
    assert isinstance(double.definition.cv, CodeModel)
    folds = [(np.arange(6), np.arange(6, 12)), (np.arange(6, 12), np.arange(6))]
    for cv, count in [
        (KFold(3, shuffle=True), 3),
        (ShuffleSplit(4), 4),
        (ShuffleSplit(2, random_state=np.random.RandomState(0)), 2),
        (iter(folds), 2),
        (_Own(), 2),
    ]:
        submitted(double, cv=cv)
        assert isinstance(double.definition.cv, Splits)
        assert double.definition.cv.folds == count
        assert double.definition.cv.blob in double.blobs


class _Own:
    def split(self, X, y=None, groups=None):
        yield np.arange(6), np.arange(6, 12)
        yield np.arange(6, 12), np.arange(6)

    def get_n_splits(self, *args):
        return 2


def test_data_sets_of_the_worker_are_not_loaded_here():
    double = Double()
    digits = fg.dataset("sklearn.datasets:load_digits", n_class=3)
    submitted(double, X=digits, y=digits, cv=KFold(3))
    assert [double.definition.inputs[name].part for name in ("X", "y")] == ["data", "target"]
    assert not double.blobs
    assert double.definition.environment == {}


def test_payloads_say_what_they_need_and_configuration_travels():
    import sklearn

    double = Double()
    pipe = fg.Pipeline("own")
    own = pipe.node("own", lambda X: X)
    pipe.node("lr", LogisticRegression(), after=own)
    with sklearn.config_context(assume_finite=True):
        client_of(double).submit(pipe, X=X, y=Y, labels={"branch": "main"}, error_score="raise")
    assert set(double.definition.environment) == {"python", "cloudpickle", "scikit-learn", "numpy"}
    assert double.definition.config == {"assume_finite": True}
    assert double.definition.action == "fit"
    assert double.definition.error_score == "raise"
    submitted(double)
    assert double.definition.config == {}
    assert double.definition.error_score == {"$float": "nan"}


def test_cancel():
    job = submitted(Double(EVENTS))
    assert job.cancel().state == "cancelled"


def test_ctrl_c_without_a_terminal_cancels_and_a_second_one_leaves():
    double = Double(EVENTS)
    job = submitted(double)
    double.faults = [KeyboardInterruptOnce()]
    assert job.wait().state == "cancelled"
    double.faults = [KeyboardInterruptOnce()]
    with pytest.raises(KeyboardInterrupt):
        job.wait()


class KeyboardInterruptOnce(httpx.Response):
    def __init__(self):
        super().__init__(200)

    @property
    def status_code(self):
        raise KeyboardInterrupt

    @status_code.setter
    def status_code(self, value):
        pass


def async_client(double):
    client = fg.AsyncClient(URL, "secret", transport=double.transport)

    async def no_sleep(seconds):
        await asyncio.sleep(0)

    client._link = AsyncLink(URL, "secret", transport=double.transport, sleep=no_sleep)
    return client


async def test_the_awaiting_client_does_the_same():
    double = Double(EVENTS, cuts=[50, 700], faults=[httpx.ConnectError("refused"), None, httpx.WriteError("cut")])
    async with async_client(double) as client:
        job = await client.submit(tree(), X=X, y=Y, axes={"tree__max_depth": [1, 2, 3]})
        assert [event.id async for event in job.events()] == [1, 2, 3, 4]
        assert [item.axes["tree__max_depth"] async for item in job.outcomes()] == [2, 1, 3]
        result = await job.result()
        assert result.best.axes == {"tree__max_depth": 3}
        assert (await job.wait()).state == "succeeded"
        assert (await (await client.job("job-1")).usage()).vcpu_seconds == 0
        assert [view.id for view in await client.jobs()] == ["job-1"]
        with pytest.raises(fg.Refused):
            await client.job("job-none")
        assert (await job.cancel()).state == "cancelled"
    assert len(double.blobs) == 2


def test_both_clients_have_the_same_names():
    def names(cls):
        return {name for name, _ in inspect.getmembers(cls) if not name.startswith("_")}

    assert names(fg.Client) - names(fg.AsyncClient) == {"embedded"}
    assert names(fg.AsyncClient) - names(fg.Client) <= {"link"}
    assert names(fg.Job) - names(fg.AsyncJob) == {"state"}


def test_a_nan_mean_is_no_best():
    double = Double([outcome(1, 0, mean={"$float": "nan"}), end(2)])
    result = submitted(double).result()
    assert math.isnan(result.outcomes[0].mean)
    with pytest.raises(fg.AmbiguousBest):
        _ = result.best
