"""The file of what a step passes on: arrays and sparse matrices as they lie in memory, without pickle; else dumped.

A mark, the length of a header, the header as JSON, then the buffers that it names, aligned so that they can be mapped.
"""

import json
import mmap
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from flaregate.payload import dump, load
from worker_image.engine.rows import Parts

_MARK = b"fgparts1"
_BEGIN = struct.Struct("<8sQ")
_ALIGNMENT = 64
_KINDS = "biufcSUmM"
"""Of dtypes without Python objects and without fields."""
_SPARSE = ("csr_matrix", "csc_matrix", "csr_array", "csc_array")
_OF_SPARSE = ("data", "indices", "indptr")
_ROWS = ("train", "test", "again")


class _NotPlain(Exception):
    """Something that only pickle can write."""


def write(parts: Parts, path: Path) -> int:
    """Write what a step passes on, whole or not at all; gives the file's bytes. Raises CannotPack."""
    plain = _Plain()
    try:
        header = _header(parts, plain)
    except _NotPlain:
        return dump(parts, path)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(_BEGIN.pack(_MARK, len(header)) + header)
            for buffer in plain.buffers:
                file.seek(_aligned(file.tell()))
                file.write(buffer)
            size = file.tell()
            file.truncate(size)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return size


def read(path: Path) -> Any:
    """What was written, or dumped; its buffers are mapped from the file and read-only. Only for files of one's own job.

    Raises ValueError for any other file.
    """
    with path.open("rb") as file:
        begin = file.read(_BEGIN.size)
        if not begin.startswith(_MARK):
            return load(path)
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    _, length = _BEGIN.unpack(begin)
    end = _BEGIN.size + length
    header = json.loads(bytes(whole[_BEGIN.size : end]))
    found = _Found(whole, _aligned(end))
    return Parts(**{name: found.rows(header[name]) for name in _ROWS})


def _aligned(place: int) -> int:
    return -(-place // _ALIGNMENT) * _ALIGNMENT


def _header(parts: Parts, plain: "_Plain") -> bytes:
    if parts.fitted:
        raise _NotPlain
    return json.dumps({name: plain.rows(getattr(parts, name)) for name in _ROWS}).encode()


@dataclass(slots=True)
class _Plain:
    """Describes rows, and keeps their buffers in the order in which it does."""

    buffers: list[memoryview] = field(default_factory=list)
    _end: int = 0

    def rows(self, rows: Any) -> Any:
        kind = type(rows).__name__
        if rows is None:
            return None
        if kind in _SPARSE and type(rows) is getattr(sparse, kind):
            arrays = [self._array(getattr(rows, name)) for name in _OF_SPARSE]
            return {"sparse": kind, "shape": rows.shape, "arrays": arrays}
        return self._array(rows)

    def _array(self, array: Any) -> Any:
        if type(array) not in (np.ndarray, np.memmap) or array.dtype.kind not in _KINDS or not array.ndim:
            raise _NotPlain
        fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        flat = (array if fortran else np.ascontiguousarray(array)).reshape(-1, order="F" if fortran else "C")
        at, self._end = self._end, _aligned(self._end + array.nbytes)
        self.buffers.append(flat.view(np.uint8).data if array.nbytes else memoryview(b""))
        return {"dtype": array.dtype.str, "shape": array.shape, "fortran": fortran, "at": at}


@dataclass(frozen=True, slots=True)
class _Found:
    """Rows that lie in a mapped file."""

    whole: memoryview
    begin: int
    """Where its buffers begin."""

    def rows(self, told: Any) -> Any:
        if told is None:
            return None
        if "sparse" in told:
            arrays = tuple(self._array(one) for one in told["arrays"])
            return getattr(sparse, told["sparse"])(arrays, shape=tuple(told["shape"]), copy=False)
        return self._array(told)

    def _array(self, told: Any) -> Any:
        dtype, shape = np.dtype(told["dtype"]), tuple(told["shape"])
        count = int(np.prod(shape, dtype=np.int64))
        flat = np.frombuffer(self.whole, dtype, count, self.begin + told["at"]) if count else np.empty(0, dtype)
        return flat.reshape(shape, order="F" if told["fortran"] else "C")
