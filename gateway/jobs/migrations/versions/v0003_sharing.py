"""Several gateways, uploads in parts, what keeps blobs, events at rest: holders, references, expiry, archives."""

import re
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("ended", sa.String(length=32)))
    op.add_column("jobs", sa.Column("expires", sa.String(length=32)))
    op.add_column("jobs", sa.Column("holder", sa.String(length=64)))
    op.add_column("jobs", sa.Column("held_until", sa.String(length=32)))
    op.add_column("jobs", sa.Column("fence", sa.Integer(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("version", sa.Integer(), server_default="0", nullable=False))
    op.drop_index("labels_by_value", table_name="labels")
    op.create_index("labels_by_value", "labels", ["tenant", "name", "value", "job"], unique=False)
    op.drop_index("jobs_active", table_name="jobs")
    op.create_index("jobs_active", "jobs", ["active", "id"], unique=False)
    op.create_index("jobs_by_state", "jobs", ["tenant", "state", "id"], unique=False)
    op.create_index("jobs_by_expiry", "jobs", ["expires"], unique=False)
    op.add_column("blobs", sa.Column("upload", sa.Text()))
    op.add_column("blobs", sa.Column("parts", sa.Text()))
    op.add_column("blobs", sa.Column("used", sa.String(length=32), server_default="", nullable=False))
    op.create_index("blobs_by_use", "blobs", ["used"], unique=False)
    for table in ("blobs", "artifacts", "segments"):
        op.create_index(f"{table}_by_key", table, ["key"], unique=False)
    op.create_table(
        "job_blobs",
        sa.Column("job", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=80), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["tenant", "sha256"], ["blobs.tenant", "blobs.sha256"]),
        sa.PrimaryKeyConstraint("job", "sha256"),
    )
    op.create_index("job_blobs_by_blob", "job_blobs", ["tenant", "sha256"], unique=False)
    op.create_table(
        "claims",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("holder", sa.String(length=32), nullable=False),
        sa.Column("until", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "uploads",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("upload", sa.Text(), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("begun", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("key", "upload"),
    )
    op.create_index("uploads_by_time", "uploads", ["begun"], unique=False)
    op.create_table(
        "event_archives",
        sa.Column("job", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("key", sa.Text()),
        sa.Column("marks", sa.Text()),
        sa.Column("lines", sa.LargeBinary()),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job"),
    )
    _refer(op.get_bind())


def _refer(connection: sa.Connection) -> None:
    """Jobs of older gateways keep what they refer to, and staged bytes are as if just named."""
    text = sa.Text()
    jobs = sa.table("jobs", sa.column("id", text), sa.column("tenant", text), sa.column("definition", sa.LargeBinary()))
    blobs = sa.table("blobs", sa.column("tenant", text), sa.column("sha256", text), sa.column("used", text))
    refers = sa.table("job_blobs", sa.column("job", text), sa.column("sha256", text), sa.column("tenant", text))
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    connection.execute(sa.update(blobs).values(used=now))
    staged = set(map(tuple, connection.execute(sa.select(blobs.c.tenant, blobs.c.sha256))))
    for job, tenant, definition in connection.execute(sa.select(jobs)) if staged else ():
        named = {found.decode() for found in re.findall(rb"sha256:[0-9a-f]{64}", bytes(definition))}
        rows = [{"job": job, "sha256": one, "tenant": tenant} for one in sorted(named) if (tenant, one) in staged]
        if rows:
            connection.execute(sa.insert(refers), rows)


def downgrade() -> None:
    op.drop_table("claims")
    op.drop_index("uploads_by_time", table_name="uploads")
    op.drop_table("uploads")
    op.drop_table("event_archives")
    op.drop_index("job_blobs_by_blob", table_name="job_blobs")
    op.drop_table("job_blobs")
    op.drop_index("blobs_by_use", table_name="blobs")
    for table in ("blobs", "artifacts", "segments"):
        op.drop_index(f"{table}_by_key", table_name=table)
    for column in ("used", "parts", "upload"):
        op.drop_column("blobs", column)
    op.drop_index("jobs_by_expiry", table_name="jobs")
    op.drop_index("jobs_by_state", table_name="jobs")
    op.drop_index("jobs_active", table_name="jobs")
    op.create_index("jobs_active", "jobs", ["active"], unique=False)
    op.drop_index("labels_by_value", table_name="labels")
    op.create_index("labels_by_value", "labels", ["tenant", "name", "value"], unique=False)
    for column in ("version", "fence", "held_until", "holder", "expires", "ended"):
        op.drop_column("jobs", column)
