"""Events that go to the store while the gateway is away: numbered, bounded, each slot written safely."""

import asyncio
import json
from collections import deque

import pytest

from flaregate_wire.attempts import BatchAnswer, EventBatch, Slots
from flaregate_wire.events import ProgressEvent
from flaregate_wire.limits import SPILL_BYTES
from worker_image.gateway_link import GatewayAway
from worker_image.reporting import LeaseLost, Reporter
from worker_image.spill import Spill
from worker_image.transfers import StoreRefused


def slots(count, seconds=900, logs=()):
    requests = tuple({"method": "PUT", "url": f"http://store/{n}"} for n in range(count))
    placed = tuple((f"logs/{key}", {"method": "PUT", "url": f"http://store/{key}"}) for key in logs)
    return Slots(put=requests, logs=placed, seconds=seconds)


class Store:
    def __init__(self):
        self.objects, self.puts, self.faults = {}, 0, []

    async def put(self, transfer, data):
        self.puts += 1
        if self.faults:
            raise self.faults.pop(0)
        self.objects[transfer.url[-1]] = data

    def numbers(self):
        """Of the events that are there, by slot."""
        found = {}
        for name, data in sorted(self.objects.items()):
            assert len(data) <= SPILL_BYTES
            batches = [EventBatch.model_validate_json(line) for line in data.splitlines()]
            assert {batch.boot for batch in batches} == {"b"}
            found[name] = [
                number for batch in batches for number in range(batch.first, batch.first + len(batch.events))
            ]
            assert found[name] == [event.done for batch in batches for event in batch.events]
        return found


def event(number, size=0):
    text = {"type": "progress", "time": "2026-01-01T00:00:00Z", "done": number, "total": 9, "pad": "x" * size}
    return json.dumps(text).encode()


async def test_what_is_new_is_written_into_the_same_slot_and_nothing_is_written_twice():
    store = Store()
    spill = Spill("b", slots(2), store.put)
    queue = deque(event(n) for n in range(3, 6))
    await spill.keep(3, queue)
    await spill.keep(3, queue)
    assert (store.puts, store.numbers(), spill.safe) == (1, {"0": [3, 4, 5]}, 0)
    queue.append(event(6))
    await spill.keep(3, queue)
    assert (store.puts, store.numbers()) == (2, {"0": [3, 4, 5, 6]})


async def test_more_than_a_batch_and_more_than_a_slot_goes_on_in_the_next_and_the_full_ones_need_not_be_held():
    store = Store()
    spill = Spill("b", slots(3), store.put)
    queue = deque(event(n, 1000) for n in range(10_000))
    await spill.keep(0, queue)
    found = store.numbers()
    assert [number for numbers in found.values() for number in numbers] == list(range(10_000))
    assert len(found) == 3
    assert spill.safe == found["2"][0]
    assert len(found["0"]) > 1000
    rest = deque(list(queue)[spill.safe :])
    rest.append(event(10_000, 1000))
    await spill.keep(spill.safe, rest)
    assert store.numbers()["2"][-1] == 10_000


async def test_when_all_slots_are_full_the_rest_is_held():
    store = Store()
    spill = Spill("b", slots(1), store.put)
    queue = deque(event(n, 1000) for n in range(10_000))
    await spill.keep(0, queue)
    assert list(store.numbers()) == ["0"]
    assert spill.safe == store.numbers()["0"][-1] + 1
    puts = store.puts
    await spill.keep(spill.safe, deque(list(queue)[spill.safe :]))
    assert store.puts == puts


@pytest.mark.parametrize("fault", [GatewayAway("down"), StoreRefused("403"), TimeoutError()])
async def test_a_failed_write_is_repeated_with_the_same_bytes_before_anything_else_is_written(fault):
    store, bodies = Store(), []

    async def put(transfer, data):
        bodies.append(data)
        await store.put(transfer, data)

    spill = Spill("b", slots(2), put)
    queue = deque([event(0)])
    store.faults = [fault]
    await spill.keep(0, queue)
    queue.append(event(1))
    await spill.keep(0, queue)
    assert bodies[0] == bodies[1]
    await spill.keep(0, queue)
    assert store.numbers() == {"0": [0, 1]}


async def test_slots_are_free_again_only_when_the_gateway_has_all_that_was_written():
    store = Store()
    spill = Spill("b", slots(4), store.put)
    queue = deque(event(n, 1000) for n in range(5_000))
    await spill.keep(0, queue)
    assert sorted(store.objects) == ["0", "1"]
    end = spill.safe
    spill.acknowledged(end + 1)  # away again, with a part of what was written
    await spill.keep(end + 1, deque(event(n, 1000) for n in range(end + 1, 5_001)))
    assert store.numbers()["0"] == list(range(end))
    assert store.numbers()["1"] == list(range(end + 1, 5_001))
    spill.acknowledged(5_001)
    await spill.keep(5_001, deque([event(5_001)]))
    assert store.numbers()["0"] == [5_001]


async def test_requests_are_renewed_when_a_third_of_their_time_has_passed():
    now = [0.0]
    spill = Spill("b", slots(1, seconds=900), Store().put, clock=lambda: now[0])
    assert not spill.aged
    now[0] = 301
    assert spill.aged
    spill.renewed(slots(1, seconds=900))
    assert not spill.aged
    assert not Spill("b", None, Store().put, clock=lambda: 1e9).aged


async def test_a_segment_of_the_log_is_written_by_one_request_and_then_new_ones_are_asked_for():
    store = Store()
    spill = Spill("b", slots(0, logs="xyz"), store.put)
    assert not spill.aged
    assert await spill.keep_log(b"one") == "logs/x"
    assert spill.aged
    store.faults = [StoreRefused("too late")]
    assert await spill.keep_log(b"two") is None
    assert await spill.keep_log(b"two") == "logs/z", "what was refused may have arrived all the same"
    assert await spill.keep_log(b"three") is None
    assert store.objects == {"x": b"one", "z": b"two"}
    spill.renewed(slots(0, logs="a"))
    assert not spill.aged
    assert await spill.keep_log(b"three") == "logs/a"


async def test_without_slots_nothing_is_written():
    store = Store()
    spill = Spill("b", None, store.put)
    await spill.keep(0, deque([event(0)]))
    assert await spill.keep_log(b"line") is None
    assert (store.puts, spill.safe) == (0, 0)


class Link:
    """A gateway that is away until told otherwise, and that reads the store where it misses something."""

    def __init__(self, store):
        self.store, self.away, self.got, self.renewals = store, True, [], 0

    async def send_events(self, first, events, *, renew=False):
        if self.away:
            raise GatewayAway("refused")
        self.renewals += renew
        if first > len(self.got):
            for numbers in self.store.numbers().values():
                assert numbers[0] <= len(self.got)
                self.got += numbers[len(self.got) - numbers[0] :]
        self.got += [json.loads(one)["done"] for one in events[len(self.got) - first :]]
        return BatchAnswer(acknowledged=len(self.got), lease=60, spill=slots(8) if renew else None)


def told(number):
    return ProgressEvent(time="2026-01-01T00:00:00Z", done=number, total=9)


async def test_a_reporter_holds_a_bounded_part_and_goes_on_when_the_gateway_is_back():
    store = Store()
    link = Link(store)
    reporter = Reporter(link, 60, lambda: None, Spill("b", slots(8, seconds=0.01), store.put))
    running = asyncio.create_task(reporter.run())
    count = 150_000
    most = 0
    for number in range(count):
        if number % 1000 == 0:
            await asyncio.sleep(0.001)
            await asyncio.wait_for(reporter.room(), 10)
            most = max(most, reporter._bytes)
        reporter.report(told(number))
    assert most < 17 * 1024 * 1024
    while reporter._spill.safe == 0:
        await asyncio.sleep(0.01)
    link.away = False
    await asyncio.wait_for(reporter.settled(), 20)
    assert link.got == list(range(count))
    assert link.renewals >= 1
    running.cancel()


async def test_the_last_thing_that_a_lost_container_does_is_to_write_what_it_has():
    store = Store()
    reporter = Reporter(Link(store), 0.2, lambda: None, Spill("b", slots(1), store.put))
    for number in range(5):
        reporter.report(told(number))
    with pytest.raises(LeaseLost):
        await asyncio.wait_for(reporter.run(), 10)
    assert store.numbers() == {"0": [0, 1, 2, 3, 4]}
