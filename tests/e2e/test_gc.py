"""`flaregate gc`: what a job put into the cache is removed, and nothing else."""

import asyncio
import os
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.gateway.conftest import TOKEN
from tests.served import served
from worker_image.cache import CacheAccess, GatewayCache

FLAREGATE = str(Path(sys.executable).parent / "flaregate")
SHELF = "sha256:" + "a" * 64


async def flaregate(url, *words):
    environment = {**os.environ, "FLAREGATE_URL": url, "FLAREGATE_TOKEN": TOKEN}
    process = await asyncio.create_subprocess_exec(
        FLAREGATE, *words, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_what_a_job_made_is_removed(tmp_path):
    async with served(tmp_path / "gateway") as gateway:
        bad, good = await gateway.submit(), await gateway.submit()
        for job in (bad, good):
            head = await gateway.head(job)
            access = CacheAccess(url=gateway.url, attempt=head.attempt, token=head.token)
            cache = GatewayCache(access, tmp_path / job)
            cache.keep(SHELF, "k", {"n": 1})
            await asyncio.to_thread(cache.close)
        code, out, err = await flaregate(gateway.url, "gc", "--from", bad)
        assert (code, err) == (0, "")
        assert out.startswith(f"removed 1 objects of {bad}, ")
        reader = GatewayCache(access, tmp_path / "reader")
        found = await asyncio.to_thread(reader.lookup, [SHELF])
        await asyncio.to_thread(reader.close)
        assert found[SHELF]["k"].job == good
        code, out, _ = await flaregate(gateway.url, "gc", "--from", bad)
        assert (code, out) == (0, f"removed 0 objects of {bad}, 0 B\n")
