"""Logs: any byte can be gone on from, ranges and tails read no more than they need, and every form has the same text."""

import asyncio
import json
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaregate.transport.streams import LogFollowing
from gateway.jobs import log_index, logs
from gateway.jobs.log_pieces import LogPiece, as_json, of_cell
from tests.doubles import log
from tests.gateway.test_streams import served

START, COMPLETE = "flaregate-log-start", "flaregate-log-complete"


async def printed(gateway, parts, ended=True):
    """A job whose containers 0 and 1 have printed these (index, text) segments; gives its id, and its containers."""
    job = await gateway.submit()
    containers = [await gateway.head(job), await gateway.head(job, index=1, boot="w1")]
    starts, numbers = [0, 0], [0, 0]
    for index, text in parts:
        key = await containers[index].write(f"logs/{index}/{numbers[index]:06d}", text)
        await containers[index].send(log(index, key, starts[index], len(text)))
        starts[index] += len(text)
        numbers[index] += 1
    if ended:
        await containers[0].commit()
        await gateway.ended(job)
    return job, containers


def get(gateway, job, headers=None, **params):
    return gateway.http.get(f"/v1/jobs/{job}/logs", params=params, headers=headers)


def watched(gateway):
    """The ranges that are read of the store from now on."""
    read, real = [], gateway.store.get

    def reading(key, *, start=0, stop=None):
        read.append((key, start, stop))
        return real(key, start=start, stop=stop)

    gateway.store.get = reading
    return read


PARTS = [(0, "one\ntwö\nthr".encode()), (1, b"worker\n"), (0, b"ee\nfour\n"), (1, "größer".encode())]
TEXT = b"".join(text for _, text in PARTS)


async def test_every_byte_can_be_gone_on_from(gateway):
    job, _ = await printed(gateway, PARTS)
    for after in range(len(TEXT) + 3):
        answer = await get(gateway, job, after=after)
        assert answer.content == TEXT[after:]
        assert answer.headers[START] == str(after)
        assert answer.headers[COMPLETE] == "true"
        assert answer.headers["content-length"] == str(len(TEXT[after:]))
    head = await get(gateway, job, role="head", after=5)
    assert head.content == b"".join(text for index, text in PARTS if index == 0)[5:]


async def test_ranges_of_a_log_that_is_finished(gateway):
    job, _ = await printed(gateway, PARTS)
    size = len(TEXT)
    for first, last in [(0, 0), (3, 14), (10, size - 1), (size - 1, size + 50)]:
        answer = await get(gateway, job, {"Range": f"bytes={first}-{last}"})
        assert (answer.status_code, answer.content) == (206, TEXT[first : last + 1])
        assert answer.headers["content-range"] == f"bytes {first}-{min(last, size - 1)}/{size}"
        assert answer.headers[START] == str(first)
    assert (await get(gateway, job, {"Range": "bytes=-5"})).content == TEXT[-5:]
    whole = await get(gateway, job)
    assert (whole.status_code, whole.content, whole.headers["accept-ranges"]) == (200, TEXT, "bytes")
    assert (await get(gateway, job, {"Range": "bytes=0-1"}, after=3)).content == TEXT[3:]


async def test_a_log_that_is_written_has_no_ranges_and_no_length(gateway):
    job, containers = await printed(gateway, PARTS, ended=False)
    answer = await get(gateway, job, {"Range": "bytes=0-1"})
    assert (answer.status_code, answer.content, answer.headers[COMPLETE]) == (200, TEXT, "false")
    assert "content-length" not in answer.headers
    await containers[0].commit()
    await gateway.ended(job)


async def test_lines_of_json_say_where_and_whose_they_are(gateway):
    job, _ = await printed(gateway, PARTS)
    for after in (0, 4, 12, len(TEXT)):
        answer = await get(gateway, job, {"Accept": "application/x-ndjson"}, after=after)
        lines = [json.loads(line) for line in answer.content.splitlines()]
        at = after
        for line in lines:
            assert line["offset"] == at
            at += line["size"]
        assert at == len(TEXT)
        assert "".join(line["text"] for line in lines) == TEXT[after:].decode()
        assert {(line["role"], line["index"], line["attempt"]) for line in lines} <= {("head", 0, 1), ("worker", 1, 1)}


@pytest.mark.parametrize("lines", [0, 1, 2, 3, 4, 99])
async def test_tails_are_the_last_lines_whatever_the_segments(gateway, lines):
    job, _ = await printed(gateway, PARTS)
    answer = await get(gateway, job, tail=lines)
    expected = b"".join(TEXT.splitlines(keepends=True)[-lines:]) if lines else b""
    assert answer.content == expected
    assert answer.headers[START] == str(len(TEXT) - len(expected))


async def test_a_tail_reads_from_the_end_and_no_more_than_it_needs(gateway):
    size = 2_000_000
    block = (b"x" * 99 + b"\n") * (size // 100)
    job, _ = await printed(gateway, [(0, block), (0, block), (0, block)])
    read = watched(gateway)
    answer = await get(gateway, job, tail=10)
    assert answer.content == block[-1000:]
    assert sum(stop - start for _, start, stop in read) < 70_000
    assert {key for key, _, _ in read} == {read[0][0]}


async def test_one_line_without_an_end_is_cut_at_its_beginning(gateway, monkeypatch):
    monkeypatch.setattr(logs, "TAIL_BYTES", 1_000_000)
    job, _ = await printed(gateway, [(0, b"y" * 900_000), (0, b"x" * 900_000), (0, b"x" * 900_000)])
    read = watched(gateway)
    answer = await get(gateway, job, tail=1)
    assert answer.content == b"x" * 1_000_000
    assert sum(stop - start for _, start, stop in read) == 2_000_000  # to look, and to send


async def test_the_index_is_read_in_pages(gateway, monkeypatch):
    monkeypatch.setattr(log_index, "PAGE", 3)
    parts = [(0, b"line %d\n" % number) for number in range(20)]
    text = b"".join(text for _, text in parts)
    job, _ = await printed(gateway, parts)
    assert (await get(gateway, job)).content == text
    for after in range(0, len(text), 7):
        assert (await get(gateway, job, after=after)).content == text[after:]
    for lines in range(22):
        assert (await get(gateway, job, tail=lines)).content.count(b"\n") == min(lines, 20)
    assert (await gateway.service._logs.last_lines(job, 4)) == ("line 16", "line 17", "line 18", "line 19")


async def test_bytes_that_are_lost_move_no_offset(gateway):
    job, containers = await printed(gateway, PARTS[:2], ended=False)
    await containers[0].send(log(0, f"tenants/default/jobs/{job}/attempts/1/logs/none", 11, 4))
    key = await containers[1].write("logs/1/9", b"short")
    await containers[1].send(log(1, key, 7, 8))
    await containers[0].commit()
    await gateway.ended(job)
    expected = TEXT[: len(PARTS[0][1]) + 7] + b"????" + b"short???"
    answer = await get(gateway, job)
    assert answer.content == expected
    assert (await get(gateway, job, after=20)).content == expected[20:]


async def test_what_goes_not_together_is_refused(gateway):
    job, _ = await printed(gateway, PARTS)
    for params in ({"tail": 1, "after": 1}, {"tail": 1, "cell": 0}, {"after": -1}, {"cell": -1}):
        answer = await get(gateway, job, **params)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), params
    assert (await get(gateway, job, {"Accept": "image/png"})).status_code == 406


async def lines_of(client, job, rng, **wanted):
    """What the SDK makes of a log whose stream is cut at random bytes again and again."""
    following = LogFollowing(job, **wanted)
    lines, calls = [], 0
    while not following.ended:
        call, calls = following.call(), calls + 1
        cut = rng.choice([None, 0, 1, 7, 100, 1000])
        async with client.stream("GET", call.path, params=call.params, headers=call.headers) as answer:
            assert answer.status_code == 200, call
            following.opened(answer.headers)
            got = 0
            async for piece in answer.aiter_raw():
                lines += following.take(piece if cut is None else piece[: cut - got])
                got += len(piece)
                if cut is not None and got >= cut:
                    break
            else:
                lines += following.end()
    return lines, calls


async def test_followed_over_cuts_at_any_byte_it_is_the_same_text(deploy):
    gateway = deploy(age=0.1)
    async with served(gateway) as client:
        job, (head, worker) = await printed(gateway, [], ended=False)
        rng = random.Random(1)
        readers = [asyncio.create_task(lines_of(client, job, random.Random(n), follow=True)) for n in range(8)]
        by_role = asyncio.create_task(lines_of(client, job, random.Random(9), follow=True))
        starts = [0, 0]
        for number in range(60):
            index = rng.randrange(2)
            text = "".join(
                f"{index} {number} ä{'x' * rng.randrange(60)}\n" for _ in range(rng.randrange(1, 9))
            ).encode()
            await (head, worker)[index].log(text, number, starts[index])
            starts[index] += len(text)
            await asyncio.sleep(0.01)
        await head.commit()
        found = await asyncio.gather(*readers, by_role)
        whole = (await client.get(f"/v1/jobs/{job}/logs")).text.splitlines()
        assert len(whole) > 100
        assert all(lines == whole for lines, _ in found)
        assert sum(calls for _, calls in found) > 50
        last, _ = await lines_of(client, job, random.Random(3), tail=17)
        assert last == whole[-17:]


async def test_one_cell_s_lines_without_their_labels(gateway):
    parts = [
        (0, b"[cell 1] a\n[cell 12] no\n[cell 1] b"),
        (1, b"[cell 1] of another container\nplain\n"),
        (0, b" goes on\nplain\n[cell 2] no\n"),
        (0, b"[cell 1] no end"),
    ]
    expected = b"a\nof another container\nb goes on\nno end"
    job, _ = await printed(gateway, parts)
    for after in range(len(expected) + 2):
        answer = await get(gateway, job, cell=1, after=after)
        assert answer.content == expected[after:]
    lines = (await get(gateway, job, {"Accept": "application/x-ndjson"}, cell=1)).content.splitlines()
    assert "".join(json.loads(line)["text"] for line in lines) == expected.decode()
    assert (await get(gateway, job, cell=7)).content == b""


async def given_pieces(pieces):
    for piece in pieces:
        yield piece


def cut(text, places):
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [LogPiece(start, 1, 0, text[start:stop], last=stop == len(text)) for start, stop in pairwise(edges)]


@given(st.text(max_size=60), st.lists(st.integers(0, 1000), max_size=6))
async def test_json_keeps_characters_whole_wherever_pieces_end(text, places):
    data = text.encode(errors="replace")
    lines = [json.loads(line) async for line in as_json(given_pieces(cut(data, places)))]
    assert "".join(line["text"] for line in lines) == data.decode()
    assert sum(line["size"] for line in lines) == len(data)
    at = 0
    for line in lines:
        assert line["offset"] == at
        at += line["size"]


@given(st.binary(max_size=60), st.lists(st.integers(0, 1000), max_size=6))
async def test_json_counts_bytes_that_are_no_text_too(data, places):
    lines = [json.loads(line) async for line in as_json(given_pieces(cut(data, places)))]
    assert sum(line["size"] for line in lines) == len(data)


_LINES = st.lists(st.sampled_from(["[cell 3] yes", "[cell 3] ", "[cell 33] no", "no", "", "[cell 3]", " [cell 3] no"]))


@given(_LINES, st.lists(st.integers(0, 1000), max_size=8), st.integers(0, 30), st.booleans())
async def test_a_cell_has_its_lines_wherever_pieces_end(lines, places, start, ended):
    text = "\n".join(lines) + ("\n" if ended else "")
    found = of_cell(given_pieces(cut(text.encode(), places)), 3, start, complete=True)
    data = b"".join([piece.data async for piece in found])
    wanted = [line[9:] for line in text.splitlines(keepends=True) if line.startswith("[cell 3] ")]
    assert data.decode() == "".join(wanted)[start:]


async def test_a_very_long_line_of_a_cell_is_passed_on_as_it_comes():
    data = b"[cell 3] " + b"x" * 200_000 + b"\nno\n" + b"n" * 200_000 + b"[cell 3] no\n[cell 3] yes\n"
    pieces = cut(data, range(0, len(data), 10_000))
    found = [piece async for piece in of_cell(given_pieces(pieces), 3, 0, complete=True)]
    assert b"".join(piece.data for piece in found) == b"x" * 200_000 + b"\nyes\n"
    assert len(found) > 2
