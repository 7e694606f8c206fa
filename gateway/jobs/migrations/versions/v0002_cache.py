"""The index of the cache."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cache_objects",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("project", sa.String(length=40), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=80), nullable=False),
        sa.Column("job", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.String(length=80), nullable=False),
        sa.Column("created", sa.String(length=32), nullable=False),
        sa.Column("used", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("cache_objects_by_job", "cache_objects", ["tenant", "job"], unique=False)
    op.create_index("cache_objects_by_key", "cache_objects", ["key"], unique=True)
    op.create_index("cache_objects_by_use", "cache_objects", ["used"], unique=False)
    op.create_table(
        "cache_shelves",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("project", sa.String(length=40), nullable=False),
        sa.Column("shelf", sa.Text(), nullable=False),
        sa.Column("object", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["object"], ["cache_objects.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant", "project", "shelf", "object"),
    )
    op.create_index("cache_shelves_by_object", "cache_shelves", ["object"], unique=False)


def downgrade() -> None:
    op.drop_index("cache_shelves_by_object", table_name="cache_shelves")
    op.drop_table("cache_shelves")
    op.drop_index("cache_objects_by_use", table_name="cache_objects")
    op.drop_index("cache_objects_by_key", table_name="cache_objects")
    op.drop_index("cache_objects_by_job", table_name="cache_objects")
    op.drop_table("cache_objects")
