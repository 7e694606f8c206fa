"""Outcomes as tables: the same in CSV, Parquet and the SDK; groups; what is refused; bounded memory."""

import csv
import io
import json
import math
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from flaregate.outcomes import result_of
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.events import EVENT
from flaregate_wire.jobs import JobView
from gateway.jobs.batches import Batch
from gateway.jobs.columns import Spread
from gateway.jobs.formats import csv_pieces, parquet_pieces
from gateway.jobs.results import Gathered
from tests import doubles

CSV, PARQUET, NDJSON, JSON = "text/csv", "application/vnd.apache.parquet", "application/x-ndjson", "application/json"
TRACE = {"type": "ValueError", "message": "no, luck\nat all", "traceback": "Traceback"}


def scored(candidate, n, c, **more):
    folds = [0.1 * candidate, 0.2, {"$float": "nan"} if candidate == 2 else 1 / 3]
    times = {"fit": 0.2, "fit_folds": [0.1, 0.3], "score": 0.5}
    axes = [["pca", "n_components", n], ["logistic", "C", c]]
    scores = {"accuracy": folds, "f1": [0.5, 0.25, 0.125]}
    return doubles.outcome(candidate, axes=axes, scores=scores, mean=folds[0], std=0.5, times=times, **more)


SEARCHED = [
    scored(1, 2, 0.1, train_scores={"accuracy": [1, 1, 1], "f1": [1, 1, 0.5]}),
    scored(0, 1, {"$float": "inf"}, cached=True),
    scored(2, 2, {"$scalar": ["float32", 10.0]}),
    doubles.outcome(3, axes=[["pca", "n_components", 1], ["logistic", "C", 1.0]], error=TRACE),
]
SWEEP = {
    "pipeline": {"nodes": [{"name": "tune", "kind": "function", "import": "own:tune"}]},
    "action": "sweep",
    "best": "max:acc",
    "axes": [
        {"node": "tune", "param": "task", "values": ["=1+1", "b"], "key": "task"},
        {"node": "tune", "param": "lr", "values": [1, 0.5], "key": "lr"},
        {"node": "tune", "param": "how", "values": [{"$tuple": [1, 2]}], "key": "error_type"},
    ],
}


def cell(candidate, task, lr, **metrics):
    axes = [["tune", "task", task], ["tune", "lr", lr], ["tune", "how", {"$tuple": [1, 2]}]]
    return doubles.outcome(candidate, path=["tune"], axes=axes, metrics=metrics)


SWEPT = [
    cell(0, "=1+1", 1, acc=0.25, steps=10),
    cell(1, "=1+1", 0.5, acc=0.5, steps=20),
    cell(2, "b", 1, acc=0.75, steps=30, mean=1.5),
    doubles.outcome(3, path=["tune"], axes=[["tune", "task", "b"], ["tune", "lr", 0.5]], error=TRACE),
]


async def ended(gateway, definition, *outcomes):
    job = await gateway.submit(definition)
    head = await gateway.head(job)
    assert (await head.send(*outcomes)).status_code == 200
    assert (await head.commit()).status_code == 204
    await gateway.ended(job)
    return job


async def get(gateway, job, accept, **params):
    return await gateway.http.get(f"/v1/jobs/{job}/results", headers={"Accept": accept}, params=params)


async def tables(gateway, job, **params):
    """From CSV, and from Parquet."""
    as_csv, as_parquet = await get(gateway, job, CSV, **params), await get(gateway, job, PARQUET, **params)
    assert (as_csv.status_code, as_parquet.status_code) == (200, 200), as_csv.text
    assert as_csv.headers["content-disposition"] == f'attachment; filename="{job}.csv"'
    return pd.read_csv(io.StringIO(as_csv.text)), pq.read_table(io.BytesIO(as_parquet.content))


async def sdk_result(gateway, job):
    lines = (await get(gateway, job, NDJSON)).text.splitlines()
    view = JobView.model_validate(await gateway.view(job))
    return result_of(view, [EVENT.validate_json(line) for line in lines], {}, None)


def same(mine, theirs):
    """Numbers as near as two ways of adding are, everything else as it is."""
    if isinstance(theirs, tuple):
        theirs = list(theirs)
    if theirs is None or (isinstance(theirs, float) and math.isnan(theirs)):
        return mine is None or math.isnan(mine)
    return math.isclose(mine, theirs, rel_tol=1e-12) if isinstance(theirs, float) else mine == theirs


def agree(table, frame, names):
    rows = table.to_pylist()
    assert len(rows) == len(frame)
    for name in names:
        theirs = [None if value is pd.NA else value for value in frame[name].tolist()]
        mine = [row[name] for row in rows]
        assert all(map(same, mine, theirs)), (name, mine, theirs)


async def test_a_search_as_csv_and_parquet_is_the_sdks_table(gateway, definition):
    job = await ended(gateway, definition, *SEARCHED)
    as_csv, as_parquet = await tables(gateway, job)
    frame = (await sdk_result(gateway, job)).table()
    shared = [name for name in frame.columns if name not in ("params", "path", "error") and not name.startswith("rank")]
    assert len(shared) > 20
    agree(as_parquet, frame, shared)
    assert list(as_csv.columns) == as_parquet.column_names
    for name in as_parquet.column_names:
        if name != "time":
            assert all(
                map(same, as_csv[name].astype(object).where(as_csv[name].notna(), None), as_parquet[name].to_pylist())
            )
    kinds = {field.name: str(field.type) for field in as_parquet.schema}
    assert (kinds["param_pca__n_components"], kinds["param_logistic__C"], kinds["cached"]) == (
        "int64",
        "double",
        "bool",
    )
    last = as_parquet.to_pylist()[3]
    assert (last["error_type"], last["error_message"]) == ("ValueError", "no, luck\nat all")
    assert last["time"].isoformat() == "2026-01-01T00:00:01+00:00"
    assert json.loads(last["path"]) == ["pca", "logistic"]


async def test_a_sweep_and_its_groups_are_the_sdks(gateway):
    job = await ended(gateway, SWEEP, *SWEPT)
    as_csv, as_parquet = await tables(gateway, job)
    result = await sdk_result(gateway, job)
    agree(
        as_parquet,
        result.table().rename(columns={"mean": "metric_mean"}),
        ["candidate", "task", "lr", "acc", "steps", "metric_mean"],
    )
    assert as_parquet["axis_error_type"].to_pylist() == ['{"$tuple":[1,2]}'] * 3 + [None]
    assert as_csv["task"].tolist() == ["'=1+1", "'=1+1", "b", "b"], "a spreadsheet runs none of it"
    assert as_parquet["task"].to_pylist() == ["=1+1", "=1+1", "b", "b"]
    for by in (["task"], ["task", "lr"], ["lr"]):
        _, grouped = await tables(gateway, job, group_by=",".join(by))
        theirs = result.table(group_by=by)
        assert set(grouped.column_names) == set(theirs.columns)
        agree(grouped, theirs, theirs.columns)
        rows = (await get(gateway, job, JSON, group_by=",".join(by))).json()["rows"]
        assert rows == grouped.to_pylist()
    assert (await get(gateway, job, "*/*", group_by="task")).headers["content-type"] == JSON
    repeated = await gateway.http.get(
        f"/v1/jobs/{job}/results?group_by=task&group_by=tune__lr", headers={"Accept": JSON}
    )
    assert list(repeated.json()["rows"][0])[:2] == ["task", "tune__lr"]


async def test_groups_of_a_search_have_mean_scores(gateway, definition):
    job = await ended(gateway, definition, *SEARCHED)
    _, grouped = await tables(gateway, job, group_by="pca__n_components")
    theirs = (await sdk_result(gateway, job)).table(group_by=["pca__n_components"])
    agree(grouped, theirs, theirs.columns)
    assert grouped["n"].to_pylist() == [1, 2]
    assert grouped["failed"].to_pylist() == [1, 0]


async def test_what_is_no_axis_is_refused_with_the_one_that_was_meant(gateway):
    job = await ended(gateway, SWEEP, *SWEPT)
    answer = await get(gateway, job, JSON, group_by="task,tusk")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"][0]["pointer"] == "group_by"
    assert "'tusk', which is no axis; did you mean 'task'?" in answer.json()["detail"]


async def test_a_table_waits_for_the_end(gateway, definition):
    job = await gateway.submit(definition)
    await (await gateway.head(job)).send(*SEARCHED)
    for accept, params in ((CSV, {}), (PARQUET, {}), (JSON, {"group_by": "pca__n_components"})):
        answer = await get(gateway, job, accept, **params)
        assert (answer.status_code, answer.json()["code"]) == (409, "job_not_done")
        assert job in answer.json()["detail"]
    assert (await get(gateway, job, JSON)).status_code == 406
    assert (await get(gateway, "job-unknown", CSV)).status_code == 404


async def test_of_two_attempts_the_last_word_stands(gateway, definition):
    job = await gateway.submit(definition)
    first = await gateway.head(job)
    await first.send(scored(0, 1, 0.5), scored(1, 1, 0.5))
    gateway.launcher.end(f"{job}-1", 0, code=1)
    second = await gateway.head(job, number=2, boot="second")
    await second.send(scored(1, 7, 0.5), scored(0, 7, 0.5))
    await second.commit()
    await gateway.ended(job)
    _, table = await tables(gateway, job)
    assert table["candidate"].to_pylist() == [0, 1]
    assert table["param_pca__n_components"].to_pylist() == [7, 7]
    assert table["attempt"].to_pylist() == [2, 2]


async def test_a_job_without_outcomes_is_a_table_without_rows(gateway, definition):
    job = await ended(gateway, definition)
    as_csv, as_parquet = await tables(gateway, job)
    assert (len(as_csv), as_parquet.num_rows) == (0, 0)
    assert (await get(gateway, job, JSON, group_by="logistic__C")).json() == {"rows": []}


async def test_without_pyarrow_parquet_is_refused_with_what_installs_it(gateway, definition, monkeypatch):
    job = await ended(gateway, definition, *SEARCHED)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    answer = await get(gateway, job, PARQUET)
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")
    assert "pip install 'flaregate[data]'" in answer.json()["detail"]


def many(definition, count):
    gathered = Gathered(JobDefinition.model_validate(definition))
    line = json.dumps(scored(0, 1, 0.5) | {"id": 1, "attempt": 1}, separators=(",", ":"))
    head = json.loads(line)
    for start in range(0, count, 500):
        lines = b"".join(
            EVENT.validate_python(head | {"candidate": n}).model_dump_json(exclude_none=True).encode() + b"\n"
            for n in range(start, start + 500)
        )
        gathered.add(Batch(start + 1, start + 500, lines))
    return gathered


@pytest.mark.parametrize("pieces", [csv_pieces, parquet_pieces])
def test_memory_does_not_grow_with_the_rows(definition, pieces):
    peaks = []
    for count in (1_000, 6_000):
        table = many(definition, count).flat()
        tracemalloc.start()
        size = sum(map(len, pieces(table)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert size > count
    assert peaks[1] < peaks[0] + 20_000_000 if pieces is parquet_pieces else peaks[1] < peaks[0] + 1_000_000


def test_the_deviation_is_numpys():
    rng = np.random.default_rng(0)
    for size in (1, 2, 1000):
        numbers = rng.normal(1e6, 1, size)
        spread = Spread()
        for number in numbers:
            spread.add(float(number))
        assert math.isclose(spread.mean, numbers.mean(), rel_tol=1e-12)
        assert math.isclose(spread.std, numbers.std(), rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\tx", "\rx"])
def test_formulas_are_text_in_a_spreadsheet(text):
    definition = JobDefinition.model_validate(SWEEP)
    gathered = Gathered(definition)
    event = EVENT.validate_python(cell(0, text, 1, **{text: 1.0}) | {"id": 1, "attempt": 1})
    gathered.add(Batch(1, 1, event.model_dump_json(exclude_none=True).encode() + b"\n"))
    names, row = csv.reader(io.StringIO(b"".join(csv_pieces(gathered.flat())).decode(), newline=""))
    assert row[names.index("task")] == f"'{text}"
    assert f"'{text}" in names
