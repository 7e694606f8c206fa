"""Several gateways, uploads in parts, what keeps blobs, events at rest: holders, references, expiry, archives."""

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
    op.drop_index("jobs_active", table_name="jobs")
    op.create_index("jobs_active", "jobs", ["active", "id"], unique=False)
    op.create_index("jobs_by_state", "jobs", ["tenant", "state", "id"], unique=False)
    op.create_index("jobs_by_expiry", "jobs", ["expires"], unique=False)
    op.add_column("blobs", sa.Column("upload", sa.Text()))
    op.add_column("blobs", sa.Column("parts", sa.Text()))
    op.add_column("blobs", sa.Column("used", sa.String(length=32), server_default="", nullable=False))
    op.create_index("blobs_by_use", "blobs", ["used"], unique=False)
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


def downgrade() -> None:
    op.drop_index("uploads_by_time", table_name="uploads")
    op.drop_table("uploads")
    op.drop_table("event_archives")
    op.drop_index("job_blobs_by_blob", table_name="job_blobs")
    op.drop_table("job_blobs")
    op.drop_index("blobs_by_use", table_name="blobs")
    for column in ("used", "parts", "upload"):
        op.drop_column("blobs", column)
    op.drop_index("jobs_by_expiry", table_name="jobs")
    op.drop_index("jobs_by_state", table_name="jobs")
    op.drop_index("jobs_active", table_name="jobs")
    op.create_index("jobs_active", "jobs", ["active"], unique=False)
    for column in ("fence", "held_until", "holder", "expires", "ended"):
        op.drop_column("jobs", column)
