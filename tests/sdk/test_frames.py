"""Frames and tables go as Arrow and come back as what they were, or go as a pickle."""

import subprocess
import sys
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.extra import pandas as hpd
from polars.testing.parametric import dataframes as polars_frames

from flaregate import frames, payload


def there_and_back(obj, folder):
    item = payload.encode_data(obj)
    path = folder / "blob"
    path.unlink(missing_ok=True)
    path.write_bytes(item.read())
    return item, payload.decode_data(item.media_type, path)


def assert_same_frame(back, frame):
    pd.testing.assert_frame_equal(back, frame, check_freq=True, check_column_type="equiv")
    assert [str(dtype) for dtype in back.dtypes] == [str(dtype) for dtype in frame.dtypes]
    assert back.attrs == frame.attrs


TEXT = st.text(alphabet=st.characters(codec="utf-8"), max_size=5)
VALUES = {
    "int64": st.integers(-5, 5),
    "float32": st.floats(width=32),
    "float64": st.floats(),
    "bool": st.booleans(),
    "str": st.none() | TEXT,
    "Int32": st.none() | st.integers(-5, 5),
    "boolean": st.none() | st.booleans(),
    "string": st.none() | TEXT,
    "category": st.none() | st.sampled_from(["low", "mid", "high"]),
    "datetime64[us, Europe/Berlin]": st.none()
    | st.datetimes(min_value=pd.Timestamp("1900-01-01"), max_value=pd.Timestamp("2100-01-01")),
    "timedelta64[ms]": st.integers(-1000, 1000),
    "object": st.none() | st.integers() | TEXT | st.booleans() | st.lists(st.integers(), max_size=2) | st.floats(),
}


@st.composite
def pandas_frames(draw):
    rows = draw(st.integers(0, 6))
    names = draw(st.lists(TEXT, max_size=4, unique=True) | st.lists(st.integers(0, 50), max_size=4, unique=True))
    columns = {}
    for name in names:
        dtype = draw(st.sampled_from(sorted(VALUES)))
        values = draw(st.lists(VALUES[dtype], min_size=rows, max_size=rows))
        columns[name] = pd.Series(values, dtype=dtype)
    index = draw(st.sampled_from([None, "range", "text", "dates", "two"]))
    frame = pd.DataFrame(columns, index=range(rows))
    if index == "range":
        frame.index = pd.RangeIndex(3, 3 + 2 * rows, 2, name="every second")
    elif index == "text":
        frame.index = pd.Index([f"row {n}" for n in range(rows)])
    elif index == "dates":
        frame.index = pd.to_datetime([f"2020-01-0{n + 1}" for n in range(rows)], utc=True)
    elif index == "two":
        frame.index = pd.MultiIndex.from_arrays([["a"] * rows, range(rows)], names=["letter", None])
    return frame


@given(frame=pandas_frames())
@settings(deadline=None, max_examples=150)
def test_pandas_frames_come_back(frame, tmp_path_factory):
    item, back = there_and_back(frame, tmp_path_factory.mktemp("blob"))
    assert item.shape == frame.shape
    assert_same_frame(back, frame)
    for name in frame:
        column = back[name]
        if frame[name].dtype == object:
            assert list(map(type, column)) == list(map(type, frame[name]))


@given(frame=hpd.data_frames(hpd.columns(["a", "b"], dtype=float), index=hpd.range_indexes(min_size=1)))
@settings(deadline=None, max_examples=40)
def test_frames_of_numbers_go_without_pickle(frame, tmp_path_factory):
    item, back = there_and_back(frame, tmp_path_factory.mktemp("blob"))
    assert item.media_type == frames.ARROW
    assert_same_frame(back, frame)
    assert back.to_numpy().strides == frame.to_numpy().strides or len(frame) < 2


@given(frame=polars_frames(max_cols=4, max_size=5))
@settings(deadline=None, max_examples=60)
def test_polars_frames_come_back(frame, tmp_path_factory):
    item, back = there_and_back(frame, tmp_path_factory.mktemp("blob"))
    assert item.shape == frame.shape
    assert back.schema == frame.schema
    assert back.equals(frame)


@given(array=hnp.arrays(float, st.tuples(st.integers(0, 4), st.integers(1, 3))))
@settings(deadline=None, max_examples=30)
def test_arrow_tables_come_back(array, tmp_path_factory):
    table = pa.table({f"c{n}": column for n, column in enumerate(array.T)}).replace_schema_metadata({"own": "words"})
    item, back = there_and_back(table, tmp_path_factory.mktemp("blob"))
    assert (item.media_type, item.shape) == (frames.ARROW, table.shape)
    assert type(back) is pa.Table
    assert back.schema.equals(table.schema, check_metadata=True)
    np.testing.assert_array_equal(np.asarray(back), np.asarray(table))


def kept(**columns):
    frame = pd.DataFrame(columns)
    frame.attrs["source"] = {"sensor": 7}
    return frame


ARROW_FRAMES = {
    "categories in their order": kept(a=pd.Categorical(["x", None], categories=["y", "x", "z"], ordered=True)),
    "zones": kept(a=pd.date_range("2020", periods=2, tz="Europe/Berlin")),
    "periods": kept(a=pd.period_range("2020", periods=2, freq="M")),
    "intervals": kept(a=pd.interval_range(0, 2)),
    "integers of Arrow": kept(a=pd.array([1, None], dtype="int64[pyarrow]")),
    "half precision": kept(a=np.array([1, 2], dtype="float16")),
    "names of numbers": pd.DataFrame(np.eye(3), columns=[3, 5, 9]),
    "no names": pd.DataFrame(np.eye(3)),
    "two levels of names": pd.DataFrame({("a", 1): [1, 2], ("b", 2): [3, 4]}),
    "a name of the names": pd.DataFrame({"a": [1]}).rename_axis(columns="what"),
    "an index of the name of a column": pd.DataFrame({"a": [1, 2]}, index=pd.Index([1, 2], name="a")),
    "two levels of rows": pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([("x", 1), ("y", 2)])),
    "a missing number and none": kept(a=pd.array([1.0, None], dtype="Float64"), b=[np.nan, 1.0]),
    "rows together": pd.DataFrame(np.arange(12.0).reshape(4, 3), copy=False),
    "columns together": pd.DataFrame(np.asfortranarray(np.arange(12.0).reshape(4, 3)), copy=False),
}
PICKLED_FRAMES = {
    "objects of several types": pd.DataFrame({"a": pd.Series([1, "x", 2.0, None], dtype=object)}),
    "none that is not missing": pd.DataFrame({"a": pd.Series(["x", np.nan], dtype=object)}),
    "truth as objects": pd.DataFrame({"a": pd.Series([True, False], dtype=object)}),
    "lists": pd.DataFrame({"a": [[1, 2], [3]]}),
    "names of several types": pd.DataFrame([[1, 2]], columns=["a", 1]),
    "names that repeat": pd.DataFrame([[1, 2]], columns=["a", "a"]),
    "complex numbers": pd.DataFrame({"a": [1j, 2j]}),
    "sparse columns": pd.DataFrame({"a": pd.arrays.SparseArray([0, 0, 1])}),
    "a step of dates": pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2020", periods=2, freq="D")),
    "categories of objects": pd.DataFrame({"a": pd.Categorical(["x"], categories=pd.Index(["x", "y"], dtype=object))}),
    "attributes of a kind that JSON has not": kept(a=[1]),
    "no columns": pl.DataFrame(),
    "words within, in two pieces": pl.concat(
        [pl.DataFrame({"a": [{"w": word}]}, schema={"a": pl.Struct({"w": pl.Categorical})}) for word in "uv"],
        rechunk=False,
    ),
    "integers of 128 bits": pl.DataFrame({"a": pl.Series([1, 2], dtype=pl.Int128)}),
    "a class of its own": type("Frame", (pd.DataFrame,), {})({"a": [1]}),
}
PICKLED_FRAMES["attributes of a kind that JSON has not"].attrs["when"] = date(2020, 1, 1)


@pytest.mark.parametrize("name", ARROW_FRAMES)
def test_what_pandas_knows_of_a_frame_is_kept(name, tmp_path):
    frame = ARROW_FRAMES[name]
    item, back = there_and_back(frame, tmp_path)
    assert item.media_type == frames.ARROW
    assert_same_frame(back, frame)
    if min(frame.shape) > 1 and len(set(frame.dtypes)) == 1:
        assert back.to_numpy().strides == frame.to_numpy().strides


@pytest.mark.parametrize("name", PICKLED_FRAMES)
def test_what_arrow_would_change_is_pickled(name, tmp_path):
    frame = PICKLED_FRAMES[name]
    item, back = there_and_back(frame, tmp_path)
    assert item.media_type == payload.CLOUDPICKLE
    if isinstance(frame, pd.DataFrame):
        pd.testing.assert_frame_equal(pd.DataFrame(back), pd.DataFrame(frame), check_freq=True)
    else:
        assert back.equals(frame)


@pytest.mark.parametrize(
    "series",
    [
        pd.Series([1, 2], name="target", index=[7, 9]),
        pd.Series(["x", "y"], dtype="category"),
        pd.Series([1.5, None], name=3, dtype="Float64"),
        pl.Series("target", [1, None]),
        pl.Series("words", ["u", "v"], dtype=pl.Enum(["v", "u"])),
    ],
    ids=str,
)
def test_series_keep_their_names(series, tmp_path):
    item, back = there_and_back(series, tmp_path)
    assert (item.media_type, item.shape, type(back)) == (frames.ARROW, series.shape, type(series))
    assert (back.name, back.dtype) == (series.name, series.dtype)
    if isinstance(series, pd.Series):
        pd.testing.assert_series_equal(back, series)
    else:
        assert back.equals(series)


def test_a_series_with_a_tuple_as_its_name_is_pickled(tmp_path):
    series = pd.Series([1], name=("a", 1))
    item, back = there_and_back(series, tmp_path)
    assert (item.media_type, back.name) == (payload.CLOUDPICKLE, ("a", 1))


def test_columns_of_tables_and_decimals(tmp_path):
    column = pa.chunked_array([[Decimal("1.5")], [None]])
    item, back = there_and_back(column, tmp_path)
    assert (item.media_type, item.shape) == (frames.ARROW, (2,))
    assert type(back) is pa.ChunkedArray
    assert back.equals(column)


def test_nothing_of_the_users_frame_is_changed(tmp_path):
    series = pd.Series([1, 2])
    series.attrs["a"] = 1
    _, back = there_and_back(series, tmp_path)
    assert (series.attrs, series.name, back.attrs) == ({"a": 1}, None, {"a": 1})


def test_a_file_of_others_is_a_table(tmp_path):
    path = tmp_path / "x.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, pa.schema([("a", pa.int64())])) as writer:
        writer.write_table(pa.table({"a": [1]}))
    assert payload.decode_data(frames.ARROW, path).equals(pa.table({"a": [1]}))


def test_without_pyarrow_frames_are_pickled():
    code = """
import sys
sys.modules["pyarrow"] = None
import pandas
from flaregate.payload import encode_data
print(encode_data(pandas.DataFrame({"a": [1], "w": ["x"]})).media_type)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [payload.CLOUDPICKLE]


MADE_ANEW = """
import numpy as np, pandas as pd, polars as pl, pyarrow as pa
from flaregate.payload import encode_data
words = ["b", "a", None, "c"]
frame = pd.DataFrame({"n": np.arange(4.0), "w": words, "c": pd.Categorical(words), "i": pd.array([1, None, 3, 4], dtype="Int64")})
frame.attrs["of"] = "a test"
series = pl.Series("c", words, dtype=pl.Categorical)
for made in (frame, frame["c"], pl.DataFrame({"w": words, "c": series}), pa.table({"w": words})):
    item = encode_data(made)
    print(item.media_type, item.sha256)
"""


def test_equal_frames_have_one_digest_in_every_process():
    def digests(seed):
        command = [sys.executable, "-c", MADE_ANEW]
        done = subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    first = digests("1")
    assert len(first) == 4
    assert all(line.startswith(frames.ARROW) for line in first)
    assert digests("2") == first == digests("3")
