"""A container's log: nothing is lost or doubled, segments end where lines do and grow with the log."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_image.gateway_link import GatewayAway
from worker_image.logs import LARGEST_BYTES, SEGMENT_BYTES, ContainerLog


async def nowhere(start, segment):
    return False


def kept():
    shipped = []

    async def ship(start, segment):
        assert start == sum(map(len, shipped))
        shipped.append(segment)

    return ContainerLog(ship, nowhere), shipped


async def test_a_full_segment_ends_with_a_line_and_the_last_one_anywhere():
    log, shipped = kept()
    text = b"".join(b"line %06d\n" % number for number in range(80_000)) + b"no end"
    log.write(text)
    await log.flush()
    assert b"".join(shipped) == text
    assert all(segment.endswith(b"\n") for segment in shipped[:-1])
    assert all(SEGMENT_BYTES // 2 < len(segment) <= SEGMENT_BYTES for segment in shipped[:-1])


async def test_a_line_that_is_longer_is_cut_between_characters():
    log, shipped = kept()
    text = "a€".encode() * 200_000
    log.write(text)
    await log.flush()
    assert b"".join(shipped) == text
    assert len(shipped) > 3
    assert "".join(segment.decode() for segment in shipped) == text.decode()


async def test_bytes_that_are_no_text_are_cut_somewhere():
    log, shipped = kept()
    log.write(b"\x80" * (3 * SEGMENT_BYTES))
    await log.flush()
    assert [len(segment) for segment in shipped] == [SEGMENT_BYTES] * 3


async def test_a_loud_container_has_large_segments_and_few():
    sizes = []

    async def ship(start, segment):
        sizes.append(len(segment))

    log = ContainerLog(ship, nowhere)
    block = (b"x" * 1023 + b"\n") * 4096
    for _ in range(100):
        log.write(block)
        await log.flush()
    assert sum(sizes) == 100 * len(block)
    assert max(sizes) == LARGEST_BYTES
    assert len(sizes) < 350, "of 1,600 small ones"


@given(st.lists(st.binary(max_size=400_000), max_size=4), st.integers(0, 3))
async def test_what_could_not_be_shipped_is_shipped_later(writes, faults):
    shipped, left = [], [faults]

    async def ship(start, segment):
        if left[0]:
            left[0] -= 1
            raise GatewayAway("not now")
        assert start == sum(map(len, shipped))
        shipped.append(segment)

    log = ContainerLog(ship, nowhere)
    for data in writes:
        log.write(data)
        try:
            await log.flush()
        except GatewayAway:
            continue
    left[0] = 0
    await log.flush()
    assert b"".join(shipped) == b"".join(writes)


@pytest.fixture
def fast(monkeypatch):
    """A second is a turn of the loop."""
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda _: sleep(0))
    return sleep


@pytest.mark.parametrize("requests", [16, 2])
async def test_while_the_gateway_is_away_the_log_is_kept_more_and_more_seldom_and_goes_on_afterwards(fast, requests):
    tries, pieces, written = [], [], b""
    back = asyncio.Event()

    async def ship(start, segment):
        tries.append(start)
        if not back.is_set():
            raise GatewayAway("refused")
        pieces.append((start, segment))

    async def keep(start, segment):
        if len(kept) == requests:
            return False
        kept[len(tries)] = len(segment)
        pieces.append((start, segment))
        return True

    kept = {}
    log = ContainerLog(ship, keep)
    running = asyncio.create_task(log.run())
    while len(tries) < 70:
        written += b"another line\n"
        log.write(b"another line\n")
        log._full.set()  # nothing is waited for
        await fast(0)
    assert list(kept) == [1, 2, 4, 8, 16, 32, 64][:requests]
    back.set()
    while sum(len(segment) for _, segment in pieces) < len(written):
        await fast(0.01)
    running.cancel()
    assert [start for start, _ in pieces] == [sum(len(one) for _, one in pieces[:n]) for n in range(len(pieces))]
    assert b"".join(segment for _, segment in pieces) == written
