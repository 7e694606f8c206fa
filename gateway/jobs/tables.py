"""The tables. Columns are what is searched for; the rest of a record is one JSON document. Each row has its tenant."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created", String(32), nullable=False),
    Column("record", Text, nullable=False),
    Column("definition", LargeBinary, nullable=False),
    Column("ended", String(32)),
    Column("expires", String(32)),
    Column("holder", String(64)),
    Column("held_until", String(32)),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("version", Integer, nullable=False, server_default="0"),
    Index("jobs_by_tenant", "tenant", "id"),
    Index("jobs_by_state", "tenant", "state", "id"),
    Index("jobs_active", "active", "id"),
    Index("jobs_by_expiry", "expires"),
)
"""`holder`: the gateway that works at the job, until `held_until`; `fence` grows with each new holder."""

labels = Table(
    "labels",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("job", String(64), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("value", String(255), nullable=False),
    ForeignKeyConstraint(["job"], ["jobs.id"], ondelete="CASCADE"),
    Index("labels_by_value", "tenant", "name", "value", "job"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("job", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    Column("record", Text, nullable=False),
    ForeignKeyConstraint(["job"], ["jobs.id"], ondelete="CASCADE"),
    Index("attempts_by_job", "job", "number", unique=True),
)

event_batches = Table(
    "event_batches",
    metadata,
    Column("job", String(64), primary_key=True),
    Column("first", Integer, primary_key=True),
    Column("last", Integer, nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("lines", LargeBinary, nullable=False),
    ForeignKeyConstraint(["job"], ["jobs.id"], ondelete="CASCADE"),
)

event_archives = Table(
    "event_archives",
    metadata,
    Column("job", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("key", Text),
    Column("marks", Text),
    Column("lines", LargeBinary),
    ForeignKeyConstraint(["job"], ["jobs.id"], ondelete="CASCADE"),
)
"""The events of a job that has ended: few are `lines` here, many an object under `key` with its `marks` (JSON)."""

segments = Table(
    "segments",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("tenant", String(64), nullable=False),
    Column("job", String(64), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("container", Integer, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("key", Text, nullable=False),
    ForeignKeyConstraint(["job"], ["jobs.id"], ondelete="CASCADE"),
    Index("segments_by_job", "job", "id"),
    Index("segments_by_key", "key"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("job", String(64), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("key", Text, nullable=False),
    Column("media_type", String(200), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(80), nullable=False),
    ForeignKeyConstraint(["job"], ["jobs.id"], ondelete="CASCADE"),
    Index("artifacts_by_key", "key"),
)

blobs = Table(
    "blobs",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("sha256", String(80), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("media_type", String(200), nullable=False),
    Column("key", Text, nullable=False),
    Column("complete", Boolean, nullable=False),
    Column("upload", Text),
    Column("parts", Text),
    Column("used", String(32), nullable=False, server_default=""),
    Index("blobs_by_use", "used"),
    Index("blobs_by_key", "key"),
)
"""`upload` and `parts` (JSON): of what is sent in several parts, until it is complete."""

job_blobs = Table(
    "job_blobs",
    metadata,
    Column("job", String(64), primary_key=True),
    Column("sha256", String(80), primary_key=True),
    Column("tenant", String(64), nullable=False),
    ForeignKeyConstraint(["job"], ["jobs.id"], ondelete="CASCADE"),
    ForeignKeyConstraint(["tenant", "sha256"], ["blobs.tenant", "blobs.sha256"]),
    Index("job_blobs_by_blob", "tenant", "sha256"),
)
"""What a job's definition refers to: as long as the job is kept, its blobs are."""

uploads = Table(
    "uploads",
    metadata,
    Column("key", Text, primary_key=True),
    Column("upload", Text, primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("begun", String(32), nullable=False),
    Index("uploads_by_time", "begun"),
)
"""What attempts send in parts, until it is an object or given up."""

claims = Table(
    "claims",
    metadata,
    Column("key", Text, primary_key=True),
    Column("holder", String(32), nullable=False),
    Column("until", String(32), nullable=False),
)
"""Who may write an object, for a moment."""

idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("body", String(80), nullable=False),
    Column("view", LargeBinary, nullable=False),
)

cache_objects = Table(
    "cache_objects",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("tenant", String(64), nullable=False),
    Column("project", String(40), nullable=False),
    Column("key", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(80), nullable=False),
    Column("job", String(64), nullable=False),
    Column("attempt", String(80), nullable=False),
    Column("created", String(32), nullable=False),
    Column("used", String(32), nullable=False),
    Index("cache_objects_by_job", "tenant", "job"),
    Index("cache_objects_by_key", "key", unique=True),
    Index("cache_objects_by_use", "used"),
)
"""Segments and large results alike. They outlive their jobs."""

cache_shelves = Table(
    "cache_shelves",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("project", String(40), primary_key=True),
    Column("shelf", Text, primary_key=True),
    Column("object", Integer, primary_key=True),
    ForeignKeyConstraint(["object"], ["cache_objects.id"], ondelete="CASCADE"),
    Index("cache_shelves_by_object", "object"),
)
"""Which segments have results of which shelf."""
