"""Claims: one holder a key, among gateways on one database, and none for ever."""

import asyncio
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from gateway.jobs.claims import LEASE, Claims
from gateway.jobs.database import Database
from tests.doubles import until

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def gateways(tmp_path):
    """Two of them."""
    url = f"sqlite:///{tmp_path / 'gateway.db'}"
    with closing(Database(url)) as one, closing(Database(url)) as two:
        yield Claims(one, lambda: NOW), Claims(two, lambda: NOW)


async def test_one_holder_at_a_time(gateways):
    inside, most = [], []

    async def hold(number):
        async with gateways[number % 2].hold("k"):
            inside.append(number)
            most.append(len(inside))
            await asyncio.sleep(0)
            inside.remove(number)

    await asyncio.gather(*(hold(number) for number in range(12)))
    assert most == [1] * 12


async def test_other_keys_do_not_wait(gateways):
    async with gateways[0].hold("k"), gateways[1].hold("l"), gateways[0].hold("m"):
        pass


async def test_a_claim_is_free_when_its_work_fails(gateways):
    with pytest.raises(ConnectionError):
        async with gateways[0].hold("k"):
            raise ConnectionError
    async with gateways[1].hold("k"):
        pass


async def test_a_claim_of_a_gateway_that_is_gone_ends(gateways, tmp_path):
    held = gateways[0].hold("k")
    await held.__aenter__()  # and never left
    with closing(Database(f"sqlite:///{tmp_path / 'gateway.db'}")) as database:
        early = Claims(database, lambda: NOW + LEASE)
        waiting = asyncio.create_task(early.hold("k").__aenter__())
        late = Claims(database, lambda: NOW + LEASE + timedelta(seconds=1))
        async with late.hold("k"):
            assert not waiting.done()
        await until(waiting.done)
