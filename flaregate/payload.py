"""The one module that pickles: opaque bytes of user code, and the encodings of data (without pickle where possible)."""

import io
import mmap
import os
import pickle
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import cloudpickle

from flaregate import frames
from flaregate.errors import Refused
from flaregate.frames import ARROW
from flaregate.origin import is_local
from flaregate.sums import summed
from flaregate_wire.blobs import Part

NPY = "application/x-npy"
SCIPY_NPZ = "application/x-scipy-npz"
CLOUDPICKLE = "application/x-cloudpickle"
SPLITS = "application/x-flaregate-splits"
"""An npz of index arrays `train0`, `test0`, `train1` …"""

_PROTOCOL = 5
_NUMERIC = "biufc"
_ALIGNMENT = 64
"""Bytes: where a buffer begins in a dumped file, so that arrays map onto it as they map onto memory."""
_COUNTS = struct.Struct("<8sQQ")
"""Of a dumped file: what it is, bytes of the pickle, number of buffers; a size for each buffer follows."""
_DUMPED = b"fgdump01"
_SPARSE_FORMATS = frozenset({"csr", "csc", "coo", "bsr", "dia"})
_registering = Lock()


class CannotPack(Refused):
    """An object holds something that no other process can have: a lock, an open file, a connection."""


@dataclass(frozen=True, slots=True)
class Staged:
    """Encoded bytes that are ready to be staged under their digest."""

    media_type: str
    chunks: tuple[bytes | memoryview, ...] = field(repr=False)
    size: int
    sha256: str
    """`sha256:…`"""
    shape: tuple[int, ...] | None = None
    parts: tuple[Part, ...] = field(default=(), repr=False)
    """Of something large, which is sent in parts."""
    library: str | None = None
    """The distribution without which nobody can decode it, beside what every worker has."""
    modules: tuple[str, ...] = ()
    """The user's own modules that its code imports when it runs."""

    def read(self) -> bytes:
        """All bytes in one piece."""
        return b"".join(self.chunks)


def staged(media_type: str, *chunks: bytes | memoryview, shape: tuple[int, ...] | None = None) -> Staged:
    """Bytes with their size and sums; nothing is copied."""
    sums = summed(chunks)
    return Staged(media_type, chunks, sums.size, sums.sha256, shape, sums.parts)


_is_local = cache(is_local)


@lru_cache(maxsize=1)
def _local_modules(imported: tuple[int, str]) -> tuple[ModuleType, ...]:  # noqa: ARG001 - what it is remembered by
    """The user's own modules; looked for anew when the number of modules or the latest one is another."""
    return tuple(
        module
        for name, module in list(sys.modules.items())
        if name != "__main__" and getattr(module, "__name__", None) == name and _is_local(module)
    )


@contextmanager
def _local_modules_by_value() -> Iterator[None]:
    """Let cloudpickle carry the user's own modules: a worker has neither the script nor the files beside it."""
    with _registering:
        known = set(cloudpickle.list_registry_pickle_by_value())
        local = [
            module
            for module in _local_modules((len(sys.modules), next(reversed(sys.modules))))
            if module.__name__ not in known
        ]
        for module in local:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in local:
                cloudpickle.unregister_pickle_by_value(module)


def pack(obj: Any) -> bytes:
    """Pickle anything; classes and functions of the user's own modules by value. Raises CannotPack."""
    try:
        with _local_modules_by_value():
            data: bytes = cloudpickle.dumps(obj, protocol=_PROTOCOL)
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
        raise CannotPack(f"{type(obj).__name__} cannot be pickled: {error}") from error
    return data


def unpack(data: bytes | memoryview) -> Any:
    """Unpickle. Only for bytes of someone whose code may run here."""
    return pickle.loads(data)


def dump(obj: Any, path: Path) -> int:
    """Pickle into a file for `load`, large buffers beside the pickle; whole or not at all. Gives the file's bytes.

    Raises CannotPack.
    """
    buffers: list[pickle.PickleBuffer] = []
    try:
        with _local_modules_by_value():
            stream = cloudpickle.dumps(obj, protocol=_PROTOCOL, buffer_callback=buffers.append)
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
        raise CannotPack(f"{type(obj).__name__} cannot be pickled: {error}") from error
    views = [buffer.raw() for buffer in buffers]
    sizes = struct.pack(f"<{len(views)}Q", *(view.nbytes for view in views))
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(_COUNTS.pack(_DUMPED, len(stream), len(views)) + sizes + stream)
            for view in views:
                file.seek(_aligned(file.tell()))
                file.write(view)
            size = file.tell()
            file.truncate(size)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return size


def load(path: Path) -> Any:
    """What was dumped; its buffers are mapped from the file and read-only. Only for files of one's own job.

    Raises ValueError for a file that `dump` has not written, or not to its end.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size < _COUNTS.size:
            raise ValueError(f"{path.name} is no dumped object")
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    mark, length, count = _COUNTS.unpack_from(whole)
    begin = _COUNTS.size + 8 * count
    if mark != _DUMPED or len(whole) < begin + length:
        raise ValueError(f"{path.name} is no dumped object")
    buffers, end = [], begin + length
    for size in struct.unpack_from(f"<{count}Q", whole, _COUNTS.size):
        start = _aligned(end)
        end = start + size
        buffers.append(whole[start:end])
    if end > len(whole):
        raise ValueError(f"{path.name} is cut off")
    return pickle.loads(whole[begin : begin + length], buffers=buffers)


def _aligned(place: int) -> int:
    return -(-place // _ALIGNMENT) * _ALIGNMENT


def encode_payload(obj: Any) -> Staged:
    """An opaque payload."""
    return staged(CLOUDPICKLE, pack(obj))


def encode_array(array: Any) -> Staged:
    """A numpy array without Python objects in it, as .npy; its memory is hashed and sent where it lies."""
    import numpy as np  # noqa: PLC0415 - only where the user has arrays

    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        array = np.ascontiguousarray(array)
    header = io.BytesIO()
    np.lib.format.write_array_header_2_0(header, np.lib.format.header_data_from_array_1_0(array))
    flat = array.reshape(-1, order="C" if array.flags.c_contiguous else "F")
    body = memoryview(flat.view(np.uint8)) if flat.nbytes else b""
    return staged(NPY, header.getvalue(), body, shape=tuple(array.shape))


def decode_array(data: bytes) -> Any:
    """An array of its own memory from the bytes of a .npy file."""
    import numpy as np  # noqa: PLC0415

    return np.load(io.BytesIO(data), allow_pickle=False)


def encode_data(obj: Any) -> Staged:
    """Encode X, y, groups: arrays, sparse matrices, frames and tables without pickle, anything else with it."""
    as_array = _plain_array(obj)
    if as_array is not None:
        return encode_array(as_array)
    if getattr(obj, "format", None) in _SPARSE_FORMATS and type(obj).__module__.startswith("scipy.sparse"):
        from scipy import sparse  # noqa: PLC0415

        buffer = io.BytesIO()
        sparse.save_npz(buffer, obj, compressed=False)
        return staged(SCIPY_NPZ, buffer.getbuffer(), shape=tuple(obj.shape))
    frame = frames.encode(obj)
    if frame is not None:
        return replace(staged(ARROW, frame.data, shape=frame.shape), library=frame.library)
    return staged(CLOUDPICKLE, pack(obj), shape=_shape(obj))


def _plain_array(obj: Any) -> Any:
    """The numpy array that an array or list is, if a .npy file can hold it."""
    if isinstance(obj, list):
        import numpy as np  # noqa: PLC0415

        try:
            array = np.asarray(obj)
        except (ValueError, TypeError, OverflowError):  # ragged, or made of something else
            return None
        return array if array.dtype.kind in _NUMERIC else None
    numpy = sys.modules.get("numpy")
    if numpy is not None and type(obj) in (numpy.ndarray, numpy.memmap) and not obj.dtype.hasobject:
        return obj if obj.ndim else None
    return None


def _shape(obj: Any) -> tuple[int, ...] | None:
    shape = getattr(obj, "shape", None)
    if isinstance(shape, tuple) and all(isinstance(size, int) for size in shape):
        return shape
    return (len(obj),) if isinstance(obj, list | tuple) else None


def decode_data(media_type: str, path: Path) -> Any:
    """What was encoded. An array is mapped from the file and read-only. Raises ValueError for what nobody encoded."""
    import numpy as np  # noqa: PLC0415

    if media_type == NPY:
        try:
            return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except ValueError:  # an empty file region cannot be mapped
            return np.load(path, allow_pickle=False)
    if media_type == SCIPY_NPZ:
        from scipy import sparse  # noqa: PLC0415

        return sparse.load_npz(path)
    if media_type == SPLITS:
        return decode_splits(path)
    if media_type == ARROW:
        return frames.decode(path)
    if media_type == CLOUDPICKLE:
        with path.open("rb") as file:
            return pickle.load(file)
    msg = f"no way to read {media_type!r}; known are {NPY}, {SCIPY_NPZ}, {ARROW}, {SPLITS} and {CLOUDPICKLE}"
    raise ValueError(msg)


def encode_splits(folds: Iterable[tuple[Any, Any]]) -> Staged:
    """Explicit folds: index arrays of the training and test rows of each."""
    import numpy as np  # noqa: PLC0415

    arrays = {}
    for number, (train, test) in enumerate(folds):
        arrays[f"train{number}"] = np.asarray(train)
        arrays[f"test{number}"] = np.asarray(test)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return staged(SPLITS, buffer.getbuffer(), shape=(len(arrays) // 2,))


def decode_splits(path: Path) -> list[tuple[Any, Any]]:
    """The folds as (train, test) index arrays."""
    import numpy as np  # noqa: PLC0415

    with np.load(path, allow_pickle=False) as arrays:
        count = len(arrays.files) // 2
        return [(arrays[f"train{number}"], arrays[f"test{number}"]) for number in range(count)]
