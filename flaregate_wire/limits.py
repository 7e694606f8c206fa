"""Limits that SDK and gateway agree on; `GET /v1/limits` shows them."""

DEFINITION_BYTES = 1024 * 1024
"""A job's body. Everything larger is staged."""

BATCH_BYTES = 4 * 1024 * 1024
"""A batch of events from a container."""

SPILL_BYTES = 4 * 1024 * 1024
"""What a container writes into one slot of the store while the gateway is away."""

CODE_FILE_BYTES = 10 * 1024 * 1024
"""One file among the user's own code, at most."""
CODE_ARCHIVE_BYTES = 100 * 1024 * 1024
"""All of it, at most."""

NODES = 500
PATHS = 10_000
CANDIDATES = 1_000_000
BLOB_BYTES = 50 * 1024**3
PUT_BYTES = 5 * 1024**3
"""What is sent by one PUT, at most; what is larger is offered in parts."""
PART_FLOOR = 64 * 1024 * 1024
"""From here on our own programs send in parts."""
PART_BYTES = 16 * 1024 * 1024
"""A part but the last, at least."""
PARTS = 10_000
LOG_TAIL_LINES = 20

REFERENCE_FILES = 1000
"""Files of all references of a job."""
REFERENCE_BYTES = 50 * 1024**3
"""Bytes of all references of a job."""
