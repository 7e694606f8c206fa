"""Files of references as inputs: what pandas and numpy give of each, row under row."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from flaregate_wire.references import Reference
from worker_image.engine import references
from worker_image.work import LocalFile


def local(path, content=None):
    return LocalFile(address=f"s3://bucket/{path.name}", path=str(path), content=content or [path.name, "etag", "e"])


def frame(rows=4, start=0):
    numbers = np.arange(start, start + rows, dtype=float)
    return pd.DataFrame({"a": numbers, "b": numbers * 2, "label": [f"l{int(n) % 2}" for n in numbers]})


def write_arrow_stream(made, path):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, pa.Table.from_pandas(made).schema) as writer:
        writer.write_table(pa.Table.from_pandas(made))


WRITERS = {
    "parquet": lambda made, path: made.to_parquet(path),
    "csv": lambda made, path: made.to_csv(path, index=False),
    "arrow": lambda made, path: made.to_feather(path),
    "arrow, a stream": write_arrow_stream,
}


@pytest.fixture(params=WRITERS)
def written(request, tmp_path):
    """Writes frames as the files of one reference; gives how to read it."""

    def write(*frames):
        files = []
        for number, made in enumerate(frames):
            path = tmp_path / f"part={number}"
            WRITERS[request.param](made, path)
            files.append(local(path))

        def read(**more):
            given = Reference(reference="s3://bucket/parts/", format=request.param.partition(",")[0], **more)
            return references.read(given, {"s3://bucket/parts/": files})

        return read

    return write


def test_a_file_is_the_frame_that_was_written(written):
    pd.testing.assert_frame_equal(written(frame())(), frame())


def test_columns_are_a_frame_in_their_order_and_one_column_is_flat(written):
    read = written(frame())
    pd.testing.assert_frame_equal(read(columns=("label", "a")), frame()[["label", "a"]])
    pd.testing.assert_series_equal(read(column="label"), frame()["label"])


def test_files_come_row_under_row(written):
    read = written(frame(3), frame(2, 3), frame(1, 5))
    pd.testing.assert_frame_equal(read(), frame(6))
    pd.testing.assert_series_equal(read(column="b"), frame(6)["b"])


def test_names_of_rows_are_kept(tmp_path):
    parts = [frame(2).set_index("label"), frame(2, 2).set_index("label")]
    files = []
    for number, part in enumerate(parts):
        part.to_parquet(tmp_path / str(number))
        files.append(local(tmp_path / str(number)))
    given = Reference(reference="s3://b/f/", format="parquet", columns=("a",))
    pd.testing.assert_frame_equal(references.read(given, {"s3://b/f/": files}), pd.concat(parts)[["a"]])


def test_what_is_missing_is_named(written):
    with pytest.raises(LookupError, match="s3://bucket/parts/ has no column 'labell'; did you mean 'label'"):
        written(frame())(column="labell")
    with pytest.raises(ValueError, match=r"part=1 has the columns \['a'\], s3://bucket/part=0 has"):
        written(frame(), frame()[["a"]])()


def test_arrays_of_several_files_are_one(tmp_path):
    for number in range(2):
        np.save(tmp_path / f"{number}.npy", np.full((2, 3), number))
    files = [local(tmp_path / f"{number}.npy") for number in range(2)]
    given = Reference(reference="s3://b/f/", format="npy")
    np.testing.assert_array_equal(
        references.read(given, {"s3://b/f/": files}), np.repeat([0, 1], 2)[:, None] * [1, 1, 1]
    )
    one = references.read(given, {"s3://b/f/": files[:1]})
    assert not one.flags.writeable, "it is mapped"


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "x").write_bytes(b"\x00" * 64)
    for kind in ("parquet", "arrow", "npy"):
        with pytest.raises(ValueError, match=f"s3://bucket/x cannot be read as {kind}"):
            references.read(Reference(reference="s3://b/x", format=kind), {"s3://b/x": [local(tmp_path / "x")]})


def test_pickles_in_arrays_are_never_loaded(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read as npy"):
        references.read(Reference(reference="s3://b/x.npy"), {"s3://b/x.npy": [local(tmp_path / "x.npy")]})


def test_a_name_in_the_cache_follows_from_files_format_and_columns(tmp_path):
    one, other = local(tmp_path / "x", ["x", "etag", "1"]), local(tmp_path / "x", ["x", "etag", "2"])

    def content(file, **more):
        return references.content(Reference(reference="s3://b/x.csv", **more), {"s3://b/x.csv": [file]})

    made = [
        content(one),
        content(other),
        content(one, column="a"),
        content(one, columns=("a",)),
        content(one, format="arrow"),
    ]
    assert content(one) == made[0]
    assert len({str(each) for each in made}) == len(made)


def test_without_a_gateway_nobody_has_looked_at_it():
    with pytest.raises(LookupError, match="only a gateway does that"):
        references.read(Reference(reference="s3://b/x.csv"), {})
