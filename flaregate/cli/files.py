"""Reads job files: YAML or JSON, checked before anything is sent."""

import json
from pathlib import Path
from typing import Any

import yaml

from flaregate.errors import Refused
from flaregate.submission import checked
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.problems import Code


def read(path: Path, keep: str | None = None) -> JobDefinition:
    """The job in a file; `-` is standard input. Raises Refused with every mistake and its place.

    `keep` takes the place of the file's.
    """
    try:
        text = Path("/dev/stdin").read_text() if str(path) == "-" else path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"cannot read {path}: {error}", code=Code.INVALID_REQUEST) from error
    try:
        body: Any = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise Refused(f"{path} is not {'JSON' if path.suffix == '.json' else 'YAML'}: {error}") from error
    if keep is not None and isinstance(body, dict):
        body["keep"] = keep
    try:
        return checked(body)
    except Refused as refused:
        raise Refused(f"{path} is not a job that can run", code=refused.code, errors=refused.errors) from refused
