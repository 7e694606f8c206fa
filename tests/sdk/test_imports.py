"""Importing the SDK is light."""

import subprocess
import sys

FORBIDDEN = [
    "fastapi",
    "starlette",
    "boto3",
    "ray",
    "sklearn",
    "scipy",
    "numpy",
    "pandas",
    "pyarrow",
    "sqlalchemy",
    "gateway",
]


def test_import_needs_nothing_heavy():
    code = f"import sys, flaregate\nprint([name for name in {FORBIDDEN} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_loading_and_drawing_a_definition_imports_no_node(tmp_path):
    path = tmp_path / "pipe.json"
    path.write_text(
        '{"nodes": [{"name": "a", "kind": "estimator", "import": "sklearn.svm:SVC"}, '
        '{"name": "b", "kind": "estimator", "import": "not_there.at_all:Thing"}], "edges": [["a", "b"]]}'
    )
    code = (
        "import sys, flaregate\n"
        f"print(flaregate.Pipeline.load({str(path)!r}).draw())\n"
        "assert not {'sklearn', 'numpy', 'not_there'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Thing()" in done.stdout
