"""Equal code has one digest in every process; whatever changes what it does changes the digest."""

import ast
import functools
import importlib
import operator
import os
import re
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from flaregate import Pipeline
from flaregate.code_digest import Opaque, code_digest, look
from flaregate.origin import Pins, pinned

ROOT = Path(__file__).parents[2]
SOURCE = """
import enum, functools, math, re
from dataclasses import dataclass, field
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import FunctionTransformer

RATE = 0.5
WORDS = {"one", "two", "three", "four"}

class Color(enum.Enum):
    RED = 1
    BLUE = 2

@dataclass(frozen=True)
class Choice:
    color: Color = Color.RED
    weights: list = field(default_factory=list)

def halved(x):
    return x * RATE

def even(n):
    return n == 0 or odd(n - 1)

def odd(n):
    return n != 0 and even(n - 1)

def scaled_by(factor):
    def scale(X, *, power=1, choice=Choice()):
        if choice.color is Color.RED and "one" in {"one", "two", "three"}:
            return halved(np.log1p(X)) * factor ** power
        return [math.sqrt(x) for x in X if even(x)]
    return scale

class Shifting(TransformerMixin, BaseEstimator):
    limit = 10
    def fit(self, X, y=None):
        return self
    @property
    def ceiling(self):
        return self.limit

class Mine(Shifting):
    def __init__(self, k=1, words=None):
        self.k = k
        self.words = words
    @functools.cached_property
    def pattern(self):
        return re.compile("a+")
    def transform(self, X):
        import json
        return json.loads(json.dumps(X)) + self.k

subject = {
    "function": scaled_by(3),
    "class": Mine,
    "instance": Mine(2, frozenset(WORDS)),
    "lambda": FunctionTransformer(lambda X: X + len(WORDS)),
    "partial": functools.partial(scaled_by(2), power=2),
    "method": Mine().fit,
    "data": [np.arange(3.0), np.random.RandomState(0), np.random.default_rng(1), re.compile("b"), {1, "a", (2, "b")}],
}
"""
TELL = """
from flaregate.code_digest import code_digest
print({name: code_digest(thing) for name, thing in subject.items()})
"""


def run(path, seed):
    done = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT)},
    )
    return ast.literal_eval(done.stdout)


def test_three_processes_agree_whatever_the_file_the_line_and_the_hash_seed(tmp_path):
    (tmp_path / "script.py").write_text(SOURCE + TELL)
    (tmp_path / "later.py").write_text("# moved down\n" * 40 + SOURCE + TELL)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/module.py").write_text("\n" + SOURCE)
    (tmp_path / "imports.py").write_text("from mine.module import subject\n" + TELL)
    first, *others = (run(tmp_path / name, seed) for seed, name in enumerate(("script.py", "later.py", "imports.py")))
    assert others == [first, first]
    assert len(set(first.values())) == len(first)


JOB = """
from flaregate import Pipeline
from flaregate.submission import JobOptions, prepare
from flaregate_wire.planning import plan
class Up(Shifting):
    def transform(self, X):
        return X + self.limit
pipe = Pipeline()
mine = pipe.node("mine", Up())
own = pipe.node("own", subject["lambda"])
both = pipe.join("both", [mine, own], combine=subject["partial"])
pipe.node("last", FunctionTransformer(), after=both)
rows = np.arange(8.0).reshape(4, 2)
axes = {"last__func": [subject["function"], subject["partial"]]}
made = plan(prepare(pipe, JobOptions(X=rows, y=rows[:, 0], axes=axes, scoring=subject["function"])).definition)
print([step.digest for candidate in made for step in made.steps(candidate)])
"""


def test_tasks_of_a_script_have_the_same_digests_in_every_process(tmp_path):
    (tmp_path / "one.py").write_text(SOURCE + JOB)
    (tmp_path / "two.py").write_text("# moved down\n" * 9 + SOURCE + JOB)
    one, two = (run(tmp_path / name, seed) for seed, name in enumerate(("one.py", "two.py")))
    assert one == two
    assert len(set(one)) == 5


def made(source, name="not_imported"):
    space = {"__name__": name}
    exec(compile(source, f"{name}.py", "exec"), space)
    return space["subject"]


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("RATE = 0.5", "RATE = 0.25", {"function", "partial"}),
        ("x * RATE", "x / RATE", {"function", "partial"}),
        ("scaled_by(3)", "scaled_by(4)", {"function"}),
        ("power=1", "power=3", {"function", "partial"}),
        ("power=2)", "power=3)", {"partial"}),
        ("n == 0 or", "n == 1 or", {"function", "partial"}),
        ("n != 0 and", "n != 2 and", {"function", "partial"}),
        ('in {"one", "two"', 'in {"one", "six"', {"function", "partial"}),
        ("np.log1p", "np.log2", {"function", "partial"}),
        ("math.sqrt", "math.cbrt", {"function", "partial"}),
        ("BLUE = 2", "BLUE = 3", {"function", "partial"}),
        ("color: Color = Color.RED", "color: Color = Color.BLUE", {"function", "partial"}),
        ("limit = 10", "limit = 11", {"class", "instance", "method"}),
        ("return self.limit", "return -self.limit", {"class", "instance", "method"}),
        ("class Shifting(TransformerMixin, ", "class Shifting(", {"class", "instance", "method"}),
        ('"a+"', '"a*"', {"class", "instance", "method"}),
        ("import json", "import math as json", {"class", "instance", "method"}),
        ("k=1", "k=5", {"class", "instance", "method"}),
        ("Mine(2,", "Mine(3,", {"instance"}),
        ('"four"', '"five"', {"instance", "lambda"}),
        ("X + len(WORDS)", "X - len(WORDS)", {"lambda"}),
        ("np.arange(3.0)", "np.arange(3)", {"data"}),
        ("RandomState(0)", "RandomState(1)", {"data"}),
        ("default_rng(1)", "default_rng(2)", {"data"}),
        ('re.compile("b")', 're.compile("b", re.I)', {"data"}),
        ('(2, "b")', '(3, "b")', {"data"}),
    ],
)
def test_a_change_of_what_it_does_changes_the_digest(old, new, changed):
    assert old in SOURCE
    before, after = made(SOURCE), made(SOURCE.replace(old, new))
    assert {name for name in before if code_digest(before[name]) != code_digest(after[name])} == changed


def test_what_does_nothing_changes_nothing():
    for old, new in [
        ("def halved(x):\n", "def halved(x):\n    # a remark\n\n"),
        ('{"one", "two", "three", "four"}', '{"four", "three", "two", "one"}'),
    ]:
        assert code_digest(made(SOURCE)) == code_digest(made(SOURCE.replace(old, new)))
    assert code_digest(made(SOURCE, "another_name")) == code_digest(made(SOURCE))


def test_attributes_of_a_function_and_of_a_fitted_estimator_count():
    def function(X):
        return X * function.factor

    function.factor = 2
    before = code_digest(function)
    function.factor = 3
    assert code_digest(function) != before
    X = np.arange(20.0).reshape(10, 2)
    one, same, other = (make_pipeline(StandardScaler()).fit(rows) for rows in (X, X.copy(), X + 1))
    assert code_digest(one) == code_digest(same)
    assert code_digest(one) != code_digest(other)


def test_code_of_a_distribution_counts_by_its_version(monkeypatch):
    before = code_digest(LogisticRegression())
    monkeypatch.setattr("flaregate.code_digest.release_of", lambda module: "scikit-learn==0.0")
    assert code_digest(LogisticRegression()) != before


FRAME = pd.DataFrame(
    {"a": [1, 2], "b": ["x", "y"], "c": pd.Categorical(["u", "v"]), "d": pd.to_datetime(["2020", "2021"])}
)
MATRIX = sp.csr_array(np.array([[0.0, 1.0], [2.0, 0.0]]))


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        (np.eye(3), np.asfortranarray(np.eye(3)), np.eye(3) * 2),
        (np.arange(4), np.arange(8)[::2] // 2, np.arange(4.0)),
        (np.zeros(4), np.zeros(4), np.zeros((2, 2))),
        (np.array([1, "a"], object), np.array([1, "a"], object), np.array([2, "a"], object)),
        (np.float64(1), np.float64(1), np.float32(1)),
        (MATRIX, sp.csr_array(MATRIX.toarray()), MATRIX * 2),
        (FRAME, FRAME.copy(), FRAME.assign(a=[1, 3])),
        (FRAME, pd.concat([FRAME[["a", "b"]], FRAME[["c", "d"]]], axis=1), FRAME.rename(columns={"a": "e"})),
        (FRAME["c"], FRAME["c"].copy(), FRAME["c"].cat.rename_categories(["u", "w"])),
        (FRAME["d"], FRAME["d"].copy(), FRAME["d"].dt.tz_localize("UTC")),
        (pd.Series([1, None], dtype="Int64"), pd.Series([1, pd.NA], dtype="Int64"), pd.Series([1, 2], dtype="Int64")),
        (FRAME["a"], FRAME["a"].copy(), FRAME["a"].set_axis([3, 4])),
        (operator.itemgetter(1), operator.itemgetter(1), operator.itemgetter(2)),
        (functools.partial(max, key=len), functools.partial(max, key=len), functools.partial(min, key=len)),
        (0.0, 0.0, -0.0),
        (1, 1, True),
        ((1, 2), (1, 2), [1, 2]),
        (re.compile("a"), re.compile("a"), re.compile(b"a")),
        (len, len, max),
    ],
)
def test_data_counts_by_content(one, same, other):
    assert code_digest(one) == code_digest(same)
    assert code_digest(one) != code_digest(other)


def test_cycles_end():
    ring = [1]
    ring.append(ring)
    other = [2]
    other.append(other)
    assert code_digest(ring) != code_digest(other)

    class Node:
        def __init__(self):
            self.near = {self}

    assert code_digest(Node()) == code_digest(Node())


@pytest.mark.parametrize("thing", [threading.Lock(), (i for i in range(3)), threading.local()])
def test_what_cannot_be_seen_into_is_opaque(thing):
    with pytest.raises(Opaque):
        code_digest(thing)
    with pytest.raises(Opaque):
        code_digest(lambda X: thing)


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "fg_lazy"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "outer.py").write_text("from . import inner\nfrom json import loads\n")
    (folder / "inner.py").write_text("LIMIT = 1\n")
    yield folder
    for name in [name for name in sys.modules if name.startswith("fg_lazy")]:
        del sys.modules[name]


def imports_late(X):
    from fg_lazy import outer

    return outer.inner.LIMIT


def test_a_module_that_a_function_imports_counts_by_its_files_and_ties_it_to_this_machine(package):
    before = look(imports_late)
    assert before.only_here == ("fg_lazy", "fg_lazy.inner", "fg_lazy.outer")
    assert "fg_lazy" not in sys.modules
    (package / "inner.py").write_text("LIMIT = 2\n")
    assert look(imports_late).digest != before.digest
    assert look(lambda X: __import__).only_here == ()


def test_a_module_that_was_made_by_a_program_ties_code_to_this_machine(monkeypatch):
    module = types.ModuleType("fg_made")
    exec("def function(X):\n    return X\n", vars(module))
    monkeypatch.setitem(sys.modules, "fg_made", module)
    assert look(module.function).only_here == ("fg_made",)
    assert look(Pipeline().node).only_here == ()


def test_a_local_module_that_a_function_refers_to_counts_by_what_it_holds(package):
    outer = importlib.import_module("fg_lazy.outer")

    def function(X):
        return outer.inner.LIMIT

    before = look(function)
    assert before.only_here == ()
    outer.inner.LIMIT = 5
    assert look(function).digest != before.digest


def test_comments_and_what_tells_of_a_package_do_not_count_and_its_data_do(package):
    before = look(imports_late).digest
    (package / "inner.py").write_text('"""Words."""\n\n# a comment\nLIMIT   =   1\n')
    (package / "README.md").write_text("Words.")
    (package / "unused.py").write_text("LIMIT = 3\n")
    assert look(imports_late).digest == before
    (package / "limits.json").write_text("[1]")
    with_data = look(imports_late).digest
    assert with_data != before
    (package / "limits.json").write_text("[2]")
    assert look(imports_late).digest not in (before, with_data)


def test_packages_that_a_job_brings_count_by_their_versions_or_by_the_lock(package):
    def installed(X):
        import sklearn

        return sklearn

    def unknown(X):
        import fg_nowhere

        return fg_nowhere

    def seen(function, version="1.0", lock="a"):
        with pinned(Pins({"scikit-learn": version}, lock)):
            return code_digest(function)

    assert seen(installed) == seen(installed, lock="b") != seen(installed, "2.0")
    assert seen(unknown) == seen(unknown, "2.0") != seen(unknown, lock="b")
    assert code_digest(unknown) not in (seen(unknown), code_digest(installed))
    (package / "inner.py").write_text("import sklearn\nLIMIT = 1\n")
    assert seen(imports_late) != seen(imports_late, "2.0")


def test_what_uses_ray_says_so():
    def uses(X):
        import ray.util

        return ray.util

    assert "ray" in look(uses).others
    assert "ray" not in look(imports_late).others
