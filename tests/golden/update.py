"""Writes the golden files anew (`make golden`); what changed shows in the diff."""

import json
from pathlib import Path

from flaregate_wire.definitions import JobDefinition

HERE = Path(__file__).parent


def write(name, document):
    (HERE / name).write_text(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write("job.schema.json", JobDefinition.model_json_schema(by_alias=True))
    from gateway.main import openapi

    write("openapi.json", openapi())
