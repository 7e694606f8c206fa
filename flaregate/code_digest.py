"""Digests of what code and objects do, equal in every process wherever their files lie; the one reader of bytecode.

Looked into are functions (bytecode, constants, defaults, closures, the globals and modules that they use), classes,
instances by class and state, and data by content. An installed distribution's code counts by its version. Sets are
sorted; file names, line numbers, addresses and class ids are left out.
"""

import functools
import hashlib
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from copyreg import dispatch_table
from dataclasses import dataclass
from typing import Any, TypeVar

from flaregate.code_files import digest_of_data, digest_of_module
from flaregate.imports import import_path
from flaregate.local_modules import globals_of, imports_of, reach
from flaregate.origin import is_local, is_ours, release_of

_PROTOCOL = 4
_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented)})
_CODE = (
    *("co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_flags", "co_code", "co_exceptiontable"),
    *("co_consts", "co_names", "co_varnames", "co_freevars", "co_cellvars"),
)
_NOT_OF_A_CLASS = frozenset(
    {
        *("__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__slotnames__", "_abc_impl"),
        *("__firstlineno__", "__static_attributes__"),
    }
)
_NOT_OF_A_MODULE = frozenset(
    {
        *("__name__", "__package__", "__path__", "__file__", "__cached__", "__doc__", "__spec__", "__loader__"),
        "__builtins__",
    }
)
_NOT_OF_A_MATRIX = frozenset({"maxprint", "_has_sorted_indices", "_has_canonical_format"})


class Opaque(Exception):
    """Nothing that a digest can look into: a lock, an open file, a generator, a cache that lives in C."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of an object."""

    digest: str
    only_here: tuple[str, ...]
    """Local modules that it imports by name when it runs; they go with the job as files."""
    others: frozenset[str]
    """The top names of all else that it imports."""


def code_digest(obj: Any) -> str:
    """`sha256:…` of what an object does. Raises Opaque; then only its bytes can say what it is."""
    return look(obj).digest


def look(obj: Any) -> Look:
    """The digest of an object, and the modules that tie it to this machine. Raises Opaque."""
    walk = _Walk({}, set(), set())
    try:
        walk.see(obj)
    except Opaque:
        raise
    except Exception as error:  # the user's own __reduce__ and properties are run, and may raise anything
        raise Opaque(f"{type(obj).__name__}: {type(error).__name__}: {error}") from error
    return Look(walk.digest(), tuple(sorted(walk.only_here)), frozenset(walk.others))


class _Walk:
    """One way through an object. What was met before is named by its place, so that cycles end."""

    def __init__(self, places: dict[int, tuple[int, Any]], only_here: set[str], others: set[str]) -> None:
        self.only_here, self.others = only_here, others
        self._places = places  # the objects too: an id is an object's own only while it lives
        self._sum = hashlib.sha256()

    def digest(self) -> str:
        return f"sha256:{self._sum.hexdigest()}"

    def say(self, *words: str | bytes) -> None:
        for word in words:
            data = word if isinstance(word, bytes) else word.encode("utf-8", "surrogatepass")
            self._sum.update(len(data).to_bytes(8, "big") + data)

    def see(self, obj: Any) -> None:
        kind = type(obj)
        if kind in _ATOMS:
            self.say(kind.__name__, repr(obj))
        elif kind in _WITHOUT_IDENTITY:
            _WITHOUT_IDENTITY[kind](self, obj)
        elif id(obj) in self._places:
            self.say("again", str(self._places[id(obj)][0]))
        else:
            self._places[id(obj)] = (len(self._places), obj)
            self._meet(obj)

    def _meet(self, obj: Any) -> None:
        path = import_path(obj) if callable(obj) else None
        if isinstance(obj, types.ModuleType):
            self._module(obj)
        elif path is not None:
            self._imported(path.partition(":")[0])
            self.say(path)
        elif isinstance(obj, type):
            self._class(obj)
        elif type(obj) in _WITH_IDENTITY:
            _WITH_IDENTITY[type(obj)](self, obj)
        else:
            data = _data(obj)
            self.see(data) if data is not None else self._instance(obj)

    def each(self, kind: str, items: Iterable[Any]) -> None:
        listed = list(items)
        self.say(kind, str(len(listed)))
        for item in listed:
            self.see(item)

    def mapping(self, items: Mapping[Any, Any]) -> None:
        self.each("mapping", (part for pair in items.items() for part in pair))

    def attributes(self, items: Mapping[str, Any], without: frozenset[str] = frozenset()) -> None:
        self.mapping({name: items[name] for name in sorted(items, key=str) if name not in without})

    def unordered(self, items: Iterable[Any]) -> None:
        """The elements of a set, by their digests: each sees only what was met before the set."""
        found = []
        for item in items:
            places = self._places if type(item) in _ATOMS else dict(self._places)
            walk = _Walk(places, self.only_here, self.others)
            walk.see(item)
            found.append(walk.digest())
        self.say("set", *sorted(found))

    def code(self, code: types.CodeType) -> None:
        self.each("code", (getattr(code, name, None) for name in _CODE))

    def function(self, function: types.FunctionType) -> None:
        self.say("function")
        self.see(function.__code__)
        self.see(function.__defaults__)
        self.attributes(function.__kwdefaults__ or {})
        self.each("closure", function.__closure__ or ())
        self.attributes(vars(function))
        known = function.__globals__
        for name in globals_of(function.__code__):
            if name in _NOT_OF_A_MODULE:
                continue
            self.say("global", name)
            self.see(known[name]) if name in known else self.say("builtin")
        for name in imports_of(function.__code__, known.get("__package__")):
            self._imported(name)

    def cell(self, cell: types.CellType) -> None:
        try:
            self.each("cell", [cell.cell_contents])
        except ValueError:  # not filled yet
            self.say("empty cell")

    def named(self, descriptor: Any) -> None:
        """What C made of a class: its name says what it does."""
        self.say(type(descriptor).__name__, descriptor.__objclass__.__name__, descriptor.__name__)

    def _module(self, module: types.ModuleType) -> None:
        if is_local(module):
            self.say("local module")
            self.attributes(vars(module), _NOT_OF_A_MODULE)
        else:
            self._imported(module.__name__)

    def _imported(self, module: str) -> None:
        """A module that code finds by its name when it runs: its files, those it imports, and the data beside them."""
        self.say("module", module)
        found = reach(module)
        self.only_here.update(found.files)
        self.others.update(found.others)
        for name, file in sorted(found.files.items()):
            self.say(name, digest_of_module(file))
        for top in sorted({name.partition(".")[0] for name in found.files}):
            self.say(digest_of_data(top))
        releases = {name: release_of(name) for name in found.others}
        self.say(*sorted(release or "no release" for release in releases.values()))
        known = found.files or releases.get(module.partition(".")[0]) or is_ours(module)
        if not known and module in sys.modules:  # made by a program
            self.only_here.add(module)

    def _class(self, kind: type) -> None:
        self.say("class", kind.__name__)
        self.see(type(kind))
        self.each("bases", kind.__bases__)
        self.attributes(vars(kind), _NOT_OF_A_CLASS)

    def _instance(self, obj: Any) -> None:
        """By class and state, as copying takes them apart."""
        kind = type(obj)
        reduce = dispatch_table.get(kind)
        try:
            parts = reduce(obj) if reduce else obj.__reduce_ex__(_PROTOCOL)
        except TypeError as error:
            raise Opaque(f"{kind.__name__}: {error}") from error
        if isinstance(parts, str):
            raise Opaque(f"{kind.__name__} {parts} is known by its name alone")
        make, arguments, state, items, pairs = (*parts, None, None, None)[:5]
        self.say("object")
        self.see(make)
        self.see(arguments)
        if type(state) is dict and all(type(name) is str for name in state):
            self.attributes(state)
        else:
            self.see(state)
        self.each("items", items or ())
        self.each("pairs", pairs or ())


def _data(obj: Any) -> Any:
    """What arrays, frames and sparse matrices hold, without how they hold it; None of anything else."""
    package = type(obj).__module__.partition(".")[0]
    library = sys.modules.get(package)
    if library is None or package not in _DATA:
        return None
    return _DATA[package](obj, library)


def _numpy(obj: Any, numpy: Any) -> Any:
    if isinstance(obj, numpy.dtype):
        return ("dtype", str(obj.descr))
    if isinstance(obj, numpy.generic) and not obj.dtype.hasobject:
        return ("scalar", str(obj.dtype.descr), obj.tobytes())
    if type(obj) not in (numpy.ndarray, numpy.memmap):
        return None
    content = obj.tolist() if obj.dtype.hasobject else numpy.ascontiguousarray(obj).tobytes()
    return ("array", str(obj.dtype.descr), obj.shape, content)


def _scipy(obj: Any, _: Any) -> Any:
    if not hasattr(obj, "tocsr"):
        return None
    state = {name: value for name, value in vars(obj).items() if name not in _NOT_OF_A_MATRIX}
    return ("matrix", type(obj).__name__, tuple(sorted(state.items())))


def _pandas(obj: Any, pandas: Any) -> Any:
    if isinstance(obj, pandas.DataFrame):
        return ("frame", obj.index, obj.columns, [obj.iloc[:, place].array for place in range(obj.shape[1])], obj.attrs)
    if isinstance(obj, pandas.Series):
        return ("series", obj.index, obj.name, obj.array, obj.attrs)
    if isinstance(obj, pandas.MultiIndex):
        return ("index", list(obj.levels), [codes.tolist() for codes in obj.codes], list(obj.names))
    if isinstance(obj, pandas.Index):
        return ("index", obj.array, list(obj.names))
    if isinstance(obj, pandas.api.extensions.ExtensionArray):
        plain = isinstance(obj, pandas.arrays.NumpyExtensionArray)
        return ("column", obj.dtype, obj.to_numpy() if plain else obj.to_numpy(dtype=object))
    return "missing" if obj is pandas.NA else None


_DATA: dict[str, Callable[[Any, Any], Any]] = {"numpy": _numpy, "scipy": _scipy, "pandas": _pandas}

_WITHOUT_IDENTITY: dict[type, Callable[[_Walk, Any], None]] = {
    tuple: lambda walk, obj: walk.each("tuple", obj),
    frozenset: _Walk.unordered,
    types.CodeType: _Walk.code,
}
"""Whether two places hold one such object or two equal ones differs from process to process."""

_WITH_IDENTITY: dict[type, Callable[[_Walk, Any], None]] = {
    list: lambda walk, obj: walk.each("list", obj),
    dict: _Walk.mapping,
    set: _Walk.unordered,
    types.MappingProxyType: _Walk.mapping,
    types.FunctionType: _Walk.function,
    types.MethodType: lambda walk, obj: walk.each("method", (obj.__func__, obj.__self__)),
    types.CellType: _Walk.cell,
    property: lambda walk, obj: walk.each("property", (obj.fget, obj.fset, obj.fdel)),
    staticmethod: lambda walk, obj: walk.each("static", (obj.__func__,)),
    classmethod: lambda walk, obj: walk.each("class", (obj.__func__,)),
    functools.cached_property: lambda walk, obj: walk.each("cached", (obj.func, obj.attrname)),
    type(functools.cache(len)): lambda walk, obj: walk.each("cache", (obj.__wrapped__,)),
    TypeVar: lambda walk, obj: walk.say("type variable", obj.__name__),
    **dict.fromkeys(
        (
            types.MemberDescriptorType,
            types.GetSetDescriptorType,
            types.WrapperDescriptorType,
            types.MethodDescriptorType,
            types.ClassMethodDescriptorType,
        ),
        _Walk.named,
    ),
}
