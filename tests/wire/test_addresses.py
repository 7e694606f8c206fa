"""Where users' URLs may lead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaregate_wire.addresses import AddressRefused, ask, is_public, target_of

PRIVATE = (
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "64:ff9b::7f00:1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::a00:1",
    "2001::1",
    "localhost",
    "",
)
PUBLIC = ("93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1")


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_inside_a_network_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address):
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_an_address_within_another_is_judged_as_itself(address):
    number = int(address)
    for carrier in (f"::ffff:{address}", f"64:ff9b::{address}", f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1"):
        assert is_public(carrier) == is_public(str(address))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.com/x.csv", "https://"),
        ("ftp://example.com/x.csv", "https://"),
        ("https:///x.csv", "a host"),
        ("https://me:secret@example.com/x.csv", "password"),
        ("https://example.com:8443/x.csv", "FLAREGATE_REFERENCE_HOSTS=example.com:8443"),
        ("https://example.com:port/x.csv", "no address"),
        ("https://127.0.0.1/x.csv", "not on the public internet"),
        ("https://[::ffff:10.0.0.1]/x.csv", "not on the public internet"),
        ("https://[fe80::1%25eth0]/x.csv", "not on the public internet"),
    ],
)
def test_urls_that_lead_nowhere_good(url, words):
    with pytest.raises(AddressRefused, match=words):
        target_of(url, ())


def test_the_operator_can_allow_a_host_and_port():
    target = target_of("https://Inside.example:8443/x.csv?a=1#part", {"inside.example:8443"})
    assert target.check(["10.0.0.7"]) == "10.0.0.7"
    assert target.at("10.0.0.7") == "https://10.0.0.7:8443/x.csv?a=1"
    assert target.name == "inside.example:8443"
    with pytest.raises(AddressRefused):
        target_of("https://inside.example:9443/x.csv", {"inside.example:8443"})
    assert target_of("https://[2606:2800:220:1::1]/x", ()).at("2606:2800:220:1::1") == "https://[2606:2800:220:1::1]/x"


def test_one_address_that_is_not_public_refuses_the_name():
    target = target_of("https://example.com/x.csv", ())
    assert target.check(["93.184.216.34", "8.8.8.8"]) == "93.184.216.34"
    for addresses in (["93.184.216.34", "127.0.0.1"], ["::ffff:10.0.0.1"], []):
        with pytest.raises(AddressRefused, match=r"FLAREGATE_REFERENCE_HOSTS=example\.com:443"):
            target.check(addresses)


class Answer:
    def __init__(self, status_code, location=None):
        self.status_code = status_code
        self.headers = {"location": location} if location else {}
        self.closed = False

    async def aclose(self):
        self.closed = True


class Web:
    """Names with addresses, and pages that lead on."""

    def __init__(self, names, pages):
        self.names, self.pages, self.asked, self.answers = names, pages, [], []

    async def resolve(self, host, port):
        return self.names[host]

    async def send(self, url, name, certificate):
        self.asked.append((url, name, certificate))
        path = url.rpartition("/")[2]
        answer = Answer(302, self.pages[path]) if path in self.pages else Answer(200)
        self.answers.append(answer)
        return answer


async def test_the_connection_goes_to_the_address_that_was_looked_at():
    web = Web({"example.com": ["8.8.8.8"], "other.example": ["9.9.9.9"]}, {"a": "https://other.example/b", "b": "/c"})
    answer = await ask("https://example.com/a", web.send, (), web.resolve)
    assert (answer.status_code, [one.closed for one in web.answers]) == (200, [True, True, False])
    assert web.asked == [
        ("https://8.8.8.8/a", "example.com", "example.com"),
        ("https://9.9.9.9/b", "other.example", "other.example"),
        ("https://9.9.9.9/c", "other.example", "other.example"),
    ]


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("https://inside.example/b", "inside.example is not on the public internet"),
        ("http://example.com/b", "https://"),
        ("https://127.0.0.1/b", "127.0.0.1 is not"),
        ("https://example.com:22/b", "port 443"),
        ("https://me:secret@example.com/b", "password"),
        ("file:///etc/passwd", "https://"),
    ],
)
async def test_every_redirect_is_looked_at(location, words):
    web = Web({"example.com": ["8.8.8.8"], "inside.example": ["10.0.0.1"]}, {"a": location})
    with pytest.raises(AddressRefused, match=words):
        await ask("https://example.com/a", web.send, (), web.resolve)
    assert (len(web.asked), web.answers[0].closed) == (1, True)


async def test_redirects_come_to_an_end():
    web = Web({"example.com": ["8.8.8.8"]}, {"a": "/b", "b": "/c", "c": "/d", "d": "/e"})
    with pytest.raises(AddressRefused, match="3 redirects"):
        await ask("https://example.com/a", web.send, (), web.resolve)
    assert len(web.asked) == 4
    web.asked.clear()
    assert (await ask("https://example.com/b", web.send, (), web.resolve)).status_code == 200
