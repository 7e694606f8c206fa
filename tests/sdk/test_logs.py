"""Following a log over cuts: what is known is not read again, and both clients end up with the same lines."""

import asyncio

import httpx
import pytest

from flaregate.errors import GatewayUnavailable
from flaregate.transport.links import AsyncLink, Link
from flaregate.transport.streams import LogFollowing

TEXT = "".join(f"line {number} ä\n" for number in range(50)).encode() + b"no end"


class Cut:
    """A gateway whose every answer is cut after so many bytes; the job ends after `live` answers."""

    def __init__(self, size, live=3, clean=False, start=0):
        self.size, self.live, self.clean, self.start, self.asked = size, live, clean, start, []

    def answer(self, request):
        self.asked.append(dict(request.url.params))
        start = int(request.url.params.get("after", self.start))
        complete = len(self.asked) > self.live
        left = TEXT[start:]
        cut = min(self.size, len(left))
        whole = complete and cut == len(left)
        ends = whole or self.clean
        headers = {
            "Flaregate-Log-Start": str(start),
            "Flaregate-Log-Complete": str(complete and (whole or not ends)).lower(),
        }
        return httpx.Response(200, headers=headers, stream=Body(left[:cut], ends))


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, data, ends):
        self.data, self.ends = data, ends

    def __iter__(self):
        yield self.data
        if not self.ends:
            raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")

    async def __aiter__(self):
        for piece in self:
            yield piece


def read(gateway, **wanted):
    """The lines, by both clients."""
    transport = httpx.MockTransport(gateway.answer)
    link = Link("http://gateway.test", None, transport=transport, sleep=lambda _: None)
    found = list(link.lines(LogFollowing("job-1", **wanted)))
    link.close()
    asked, gateway.asked = gateway.asked, []

    async def other():
        async def sleep(_):
            pass

        link = AsyncLink("http://gateway.test", None, transport=transport, sleep=sleep)
        lines = [line async for line in link.lines(LogFollowing("job-1", **wanted))]
        await link.close()
        return lines

    assert asyncio.run(other()) == found
    assert gateway.asked == asked
    return found, asked


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_a_log_that_is_followed_goes_on_where_it_was_cut(size, clean):
    lines, asked = read(Cut(size, clean=clean), follow=True)
    assert lines == TEXT.decode().splitlines()
    places = [int(params.get("after", 0)) for params in asked]
    assert places == [min(size * number, len(TEXT)) for number in range(len(places))]
    assert all(params["follow"] == "true" for params in asked)


def test_a_tail_that_is_cut_goes_on_after_what_came():
    start = TEXT.index(b"line 48")
    lines, asked = read(Cut(8, live=0, start=start), tail=3)
    assert "\n".join(lines) == TEXT[start:].decode()
    assert asked[0] == {"tail": "3"}
    assert asked[1] == {"after": str(start + 8)}


def test_a_cell_is_asked_for_in_every_call():
    _, asked = read(Cut(300, live=0), cell=7)
    assert len(asked) > 1
    assert {params["cell"] for params in asked} == {"7"}


def test_patience_has_an_end():
    with pytest.raises(GatewayUnavailable):
        read(Cut(0, live=0))
