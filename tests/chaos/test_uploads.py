"""kill -9 of a program that stages something large: the next one sends only the parts that are missing."""

import asyncio
import sys

import pytest

from flaregate_wire.limits import PART_BYTES
from tests.doubles import until
from tests.gateway.conftest import TOKEN
from tests.sdk.test_staging import counted, is_staged, large, stage

pytestmark = pytest.mark.chaos

# Two threads may send, the others wait; when three parts and a half have gone, all of them wait.
_HALF = f"""
import sys, threading
from flaregate import flows
from flaregate.transport.links import Link
from tests.sdk.test_staging import large
first, for_ever = set(), threading.Event()
def told(_, done):
    first.add(threading.get_ident()) if len(first) < 2 else None
    if threading.get_ident() not in first or done > {PART_BYTES * 7 // 2}:
        for_ever.wait()
Link(sys.argv[1], {TOKEN!r}).run(flows.staging(large(), told))
"""


async def test_a_program_that_is_killed_half_way_has_lost_nothing_that_arrived(tmp_path):
    item = large()
    async with counted(tmp_path) as gateway:
        program = await asyncio.create_subprocess_exec(sys.executable, "-c", _HALF, gateway.url)
        try:
            await until(lambda: gateway.puts[204] >= 2, seconds=60)
            assert gateway.puts[204] < len(item.parts)
        finally:
            program.kill()
            await program.wait()
        told = []
        await stage(gateway, item, told=told)
        assert gateway.puts[204] == len(item.parts), "each has come once, before or after"
        assert told[0] >= 2 * PART_BYTES, "the bar begins where it was"
        assert await is_staged(gateway, item)
