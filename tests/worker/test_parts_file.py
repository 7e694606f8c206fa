"""What a step passes on, written and read again: plain data without pickle, the same to the bit; anything else dumped."""

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes
from scipy import sparse
from sklearn.preprocessing import StandardScaler

from flaregate.fitted_file import FittedNode
from worker_image.engine import parts_file
from worker_image.engine.rows import Parts

MATRIX = np.random.RandomState(0).normal(size=(7, 5))


def again(parts, path):
    assert parts_file.write(parts, path) == path.stat().st_size
    return parts_file.read(path)


@pytest.fixture
def no_pickle(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("pickled")

    monkeypatch.setattr(pickle, "loads", refuse)


@given(
    arrays(
        scalar_dtypes().filter(lambda dtype: dtype.kind in "biufcSUmM" and dtype.itemsize),
        array_shapes(min_dims=1, max_dims=3, min_side=0),
    )
)
def test_arrays_come_back_to_the_bit(tmp_path_factory, array):
    found = again(Parts(array, test=array[:1]), tmp_path_factory.mktemp("parts") / "file")
    for given_, read in ((array, found.train), (array[:1], found.test)):
        assert (read.dtype, read.shape, read.tobytes()) == (given_.dtype, given_.shape, given_.tobytes())
    assert found.again is None


@pytest.mark.parametrize(
    "rows",
    [MATRIX, np.asfortranarray(MATRIX), MATRIX[::2, ::-1], MATRIX[0], np.empty((0, 5)), np.array(["a", "long"])],
    ids=["rows", "columns", "strided", "flat", "empty", "words"],
)
def test_arrays_keep_their_order_and_are_read_only(tmp_path, no_pickle, rows):
    found = again(Parts(rows, rows, rows), tmp_path / "file")
    for read in (found.train, found.test, found.again):
        np.testing.assert_array_equal(read, rows)
        assert read.flags.f_contiguous or not rows.flags.f_contiguous
        assert not rows.size or not read.flags.writeable


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array])
def test_sparse_matrices_come_back_as_what_they_were(tmp_path, no_pickle, kind):
    rows = kind(np.where(MATRIX > 0, MATRIX, 0))
    found = again(Parts(rows, rows[:0]), tmp_path / "file")
    assert type(found.train) is kind
    np.testing.assert_array_equal(found.train.toarray(), rows.toarray())
    assert found.test.shape == (0, 5)


@pytest.mark.parametrize(
    "rows",
    [
        pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}),
        np.array([{}, None], dtype=object),
        np.zeros(2, dtype=[("a", "f8"), ("b", "i4")]),
        sparse.coo_array(MATRIX),
        ["a", "list"],
    ],
    ids=["frame", "objects", "fields", "coordinates", "list"],
)
def test_anything_else_is_dumped(tmp_path, rows):
    read = again(Parts(MATRIX, rows), tmp_path / "file").test
    assert type(read) is type(rows)
    assert str(read) == str(rows)


def test_fitted_nodes_behind_the_rows_are_dumped_with_them(tmp_path):
    node = FittedNode("scale", "estimator", (), StandardScaler().fit(MATRIX))
    found = again(Parts(MATRIX, fitted=(node,)), tmp_path / "file")
    np.testing.assert_array_equal(found.fitted[0].state.mean_, node.state.mean_)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"something else that is long enough")
    with pytest.raises(ValueError, match="no dumped object"):
        parts_file.read(path)


def test_a_file_that_was_cut_is_refused(tmp_path):
    path = tmp_path / "file"
    parts_file.write(Parts(MATRIX), path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="buffer"):
        parts_file.read(path)
