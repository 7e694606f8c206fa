"""Where the bytes of a blob lie, and what becomes of bytes that are not its own."""

import logging
import secrets
from collections.abc import Collection

from flaregate_wire.definitions import JobDefinition
from gateway.jobs.errors import InvalidRequest
from gateway.jobs.records import JobRecord
from gateway.jobs.repository import SqlRepository
from gateway.stores.base import Store

log = logging.getLogger(__name__)


def new_key(tenant: str) -> str:
    """A place that nobody can guess: knowing a sum gives nobody its bytes."""
    return f"tenants/{tenant}/blobs/{secrets.token_hex(16)}"


async def unmap(repository: SqlRepository, store: Store, job: JobRecord, sums: Collection[str]) -> None:
    """A job found these blobs of its definition damaged: whoever needs one sends it anew.

    Their bytes are removed, unless they are another blob's or an artifact's too. Raises InvalidRequest for other blobs.
    """
    definition = JobDefinition.model_validate_json(await repository.definition(job.id))
    strange = sorted(set(sums) - definition.blobs())
    if strange:
        raise InvalidRequest(f"damaged: {', '.join(strange)} is not in the job's definition")
    for blob in (await repository.blobs(job.tenant, tuple(sums))).values():
        if not blob.complete:
            continue
        log.warning("%s found %s damaged, at %s: it is to be sent again", job.id, blob.sha256, blob.key)
        if await repository.staged.unmap(blob, new_key(job.tenant)):
            await store.delete(blob.key)
