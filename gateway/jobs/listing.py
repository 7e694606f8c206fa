"""Pages of a tenant's jobs, newest first: each filter has a query that walks an index until the page is full."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select

from flaregate_wire.model import rfc3339
from flaregate_wire.states import State
from gateway.jobs import tables as t
from gateway.jobs.ids import first_id


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs to list."""

    state: State | None = None
    label: tuple[str, str] | None = None
    created_after: datetime | None = None
    before: str | None = None
    """The id of the last job of the page before."""


def page(tenant: str, wanted: Filter) -> Select[Any]:
    """The records of the jobs, to be limited."""
    query, job = _walk(tenant, wanted)
    if wanted.state is not None:
        query = query.where(t.jobs.c.state == wanted.state.value)
    if wanted.created_after is not None:  # ids are in the order of creation: those of older jobs are not looked at
        query = query.where(job >= first_id(wanted.created_after), t.jobs.c.created > rfc3339(wanted.created_after))
    if wanted.before is not None:
        query = query.where(job < wanted.before)
    return query.order_by(job.desc())


def _walk(tenant: str, wanted: Filter) -> tuple[Select[Any], Any]:
    """What to walk along: the jobs of a label, or all; and its column of ids."""
    if wanted.label is None:
        return select(t.jobs.c.record).where(t.jobs.c.tenant == tenant), t.jobs.c.id
    label, (name, value) = t.labels.c, wanted.label
    query = select(t.jobs.c.record).join_from(t.labels, t.jobs, t.jobs.c.id == label.job)
    return query.where(label.tenant == tenant, label.name == name, label.value == value), label.job
