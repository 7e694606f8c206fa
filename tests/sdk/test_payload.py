"""Data keeps its bytes, its type where that matters, and needs no pickle where it need not."""

import threading

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flaregate import payload
from flaregate_wire.digests import digest_bytes


def there_and_back(obj, folder):
    item = payload.encode_data(obj)
    data = item.read()
    assert (len(data), digest_bytes(data)) == (item.size, item.sha256)
    path = folder / "blob"
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return item, payload.decode_data(item.media_type, path)


DTYPES = st.one_of(hnp.boolean_dtypes(), hnp.integer_dtypes(), hnp.floating_dtypes(), hnp.unicode_string_dtypes())


@given(array=hnp.arrays(DTYPES, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5)))
def test_arrays_go_without_pickle(array, tmp_path_factory):
    item, back = there_and_back(array, tmp_path_factory.mktemp("blob"))
    assert item.media_type == payload.NPY
    assert item.shape == array.shape
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(
    "array", [np.asfortranarray(np.arange(12.0).reshape(3, 4)), np.arange(20)[::3], np.arange(12).reshape(3, 4)[:, 1:3]]
)
def test_memory_order_is_kept_and_strides_are_not(array, tmp_path):
    _, back = there_and_back(array, tmp_path)
    np.testing.assert_array_equal(back, array)
    if array.ndim == 2:
        assert back.flags.f_contiguous == array.flags.f_contiguous


def test_a_decoded_array_is_mapped_and_read_only(tmp_path):
    _, back = there_and_back(np.ones((4, 3)), tmp_path)
    assert type(back) is np.ndarray
    with pytest.raises(ValueError, match="read-only"):
        back[0, 0] = 2


@pytest.mark.parametrize("make", [sp.csr_matrix, sp.csc_array, sp.coo_array])
def test_sparse_goes_without_pickle(make, tmp_path):
    item, back = there_and_back(make(np.eye(4)), tmp_path)
    assert item.media_type == payload.SCIPY_NPZ
    assert type(back) is make
    np.testing.assert_array_equal(back.toarray(), np.eye(4))


def test_lists_of_numbers_become_arrays_and_others_stay(tmp_path):
    assert there_and_back([[1, 2], [3, 4]], tmp_path)[1].tolist() == [[1, 2], [3, 4]]
    for other in (["a", "b"], [[1], [2, 3]], [1, "a"], [None, 1]):
        item, back = there_and_back(other, tmp_path)
        assert (item.media_type, back) == (payload.CLOUDPICKLE, other)


def test_frames_keep_their_names_and_types(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}, index=[5, 6])
    item, back = there_and_back(frame, tmp_path)
    assert item.shape == (2, 2)
    pd.testing.assert_frame_equal(back, frame)


def test_object_arrays_keep_their_objects(tmp_path):
    array = np.array([1, "a", None], dtype=object)
    assert there_and_back(array, tmp_path)[1].tolist() == [1, "a", None]


def test_folds_go_without_pickle(tmp_path):
    folds = [(np.arange(3), np.arange(3, 5)), (np.array([4, 3]), np.array([0]))]
    item = payload.encode_splits(folds)
    path = tmp_path / "folds"
    path.write_bytes(item.read())
    back = payload.decode_splits(path)
    assert [(a.tolist(), b.tolist()) for a, b in back] == [([0, 1, 2], [3, 4]), ([4, 3], [0])]


def test_equal_data_has_one_digest():
    assert payload.encode_data(sp.csr_array(np.eye(3))).sha256 == payload.encode_data(sp.csr_array(np.eye(3))).sha256


def test_unknown_media_types_are_named(tmp_path):
    with pytest.raises(ValueError, match="text/plain"):
        payload.decode_data("text/plain", tmp_path / "x")


def test_what_cannot_be_pickled_is_refused():
    with pytest.raises(payload.CannotPack, match="lock"):
        payload.pack(threading.Lock())


def test_code_of_local_modules_goes_by_value():
    assert b"there_and_back" in payload.pack(there_and_back)
    assert len(payload.pack(there_and_back)) > 300
    assert len(payload.pack(np.linalg.norm)) < 100


# Dumped files


def dumped(obj, folder):
    path = folder / "dumped"
    assert payload.dump(obj, path) == path.stat().st_size
    assert [found.name for found in folder.iterdir()] == ["dumped"]
    return payload.load(path)


@given(array=hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)))
def test_dumped_arrays_come_back(array, tmp_path_factory):
    back = dumped((array, array.T), tmp_path_factory.mktemp("dump"))
    for given_, found in zip((array, array.T), back, strict=True):
        assert (found.dtype, found.shape) == (given_.dtype, given_.shape)
        np.testing.assert_array_equal(found, given_)


def test_what_is_loaded_lies_in_the_file_aligned_and_read_only(tmp_path):
    arrays = [np.arange(n, dtype=float) for n in (1000, 3, 77)]
    back = dumped(arrays, tmp_path)
    assert all(array.ctypes.data % 64 == 0 for array in back)
    with pytest.raises(ValueError, match="read-only"):
        back[0][0] = 1
    before = back[0][1]
    with (tmp_path / "dumped").open("r+b") as file:  # the same pages: a write to the file shows
        content = file.read()
        file.seek(content.index(arrays[0].tobytes()) + 8)
        file.write(np.float64(-1).tobytes())
    assert (before, back[0][1]) == (1.0, -1.0)


def test_frames_and_sparse_matrices_are_dumped_without_copies_in_the_pickle(tmp_path):
    numbers = np.random.RandomState(0).rand(2000, 5)
    frame = pd.DataFrame(numbers, columns=list("abcde"))
    sparse = sp.csr_array(numbers)
    back_frame, back_sparse, text = dumped((frame, sparse, "text"), tmp_path)
    pd.testing.assert_frame_equal(back_frame, frame)
    np.testing.assert_array_equal(back_sparse.toarray(), numbers)
    assert not back_sparse.data.flags.writeable
    assert text == "text"


def test_a_dump_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "dumped"
    payload.dump("before", path)
    with pytest.raises(payload.CannotPack, match="lock"):
        payload.dump([np.ones(3), threading.Lock()], path)
    assert payload.load(path) == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_objects_of_own_code_are_dumped_by_value(tmp_path):
    class Local:
        def __init__(self, rows):
            self.rows = rows

    back = dumped(Local(np.arange(5)), tmp_path)
    assert back.rows.tolist() == [0, 1, 2, 3, 4]
    assert b"there_and_back" in (payload.dump(there_and_back, tmp_path / "code"), (tmp_path / "code").read_bytes())[1]


def test_a_file_that_is_cut_off_or_foreign_is_not_loaded(tmp_path):
    path = tmp_path / "dumped"
    size = payload.dump(np.ones(100), path)
    for end in (size - 8, 30, 10, 0):
        (tmp_path / "cut").write_bytes(path.read_bytes()[:end])
        with pytest.raises(ValueError, match="cut"):
            payload.load(tmp_path / "cut")
    (tmp_path / "foreign").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="foreign"):
        payload.load(tmp_path / "foreign")
