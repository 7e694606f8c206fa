"""Limits that SDK and gateway agree on; `GET /v1/limits` shows them."""

DEFINITION_BYTES = 1024 * 1024
"""A job's body. Everything larger is staged."""

BATCH_BYTES = 4 * 1024 * 1024
"""A batch of events from a container."""

NODES = 500
PATHS = 10_000
CANDIDATES = 1_000_000
BLOB_BYTES = 50 * 1024**3
LOG_TAIL_LINES = 20
