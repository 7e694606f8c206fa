"""TLS between nodes: certificates of one attempt are taken, others are refused and told of; on real Ray."""

import asyncio
import stat
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from tests.worker.conftest import until
from tests.worker.test_supervisor_ray import WHERE, nodes_of
from worker_image.node_tls import mint
from worker_image.ray_cluster import RayBroken

NOW = datetime.now(UTC)
SECRET, OTHER = "n" * 64, "m" * 64


def node(folder, address, secret=SECRET, until=NOW + timedelta(hours=1)):
    return mint(secret, address, folder, NOW, until)


def test_what_is_minted_names_its_address_and_nobody_else_may_read_it(tmp_path):
    made = node(tmp_path / "tls", "127.3.2.1")
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    certificate, authority = (
        x509.load_pem_x509_certificate(path.read_bytes()) for path in (made.certificate, made.authority)
    )
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name) for name in names.get_values_for_type(x509.IPAddress)] == ["127.3.2.1", "127.0.0.1"]
    certificate.verify_directly_issued_by(authority)
    assert certificate.not_valid_before_utc < NOW - timedelta(hours=23), "clocks differ"
    assert certificate.not_valid_after_utc > NOW + timedelta(hours=24)
    again = x509.load_pem_x509_certificate(node(tmp_path / "other", "127.3.2.2").authority.read_bytes())
    assert again.public_key() == authority.public_key(), "the same attempt has the same authority everywhere"
    certificate.verify_directly_issued_by(again)


async def listening(tls, address):
    """A server as Ray's: it asks for a certificate and speaks first."""
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls.authority)
    context.load_cert_chain(tls.certificate, tls.key)
    context.verify_mode = ssl.CERT_REQUIRED

    async def speak(_, writer):
        writer.write(b"settings")
        await writer.drain()
        writer.close()

    return await asyncio.start_server(speak, address, 0, ssl=context)


@pytest.mark.parametrize(
    ("head", "told"), [((SECRET, "127.0.0.7"), None), ((OTHER, "127.0.0.7"), "verify"), ((SECRET, "127.0.0.8"), "IP")]
)
async def test_a_head_of_another_attempt_or_address_is_told_at_once(tmp_path, head, told):
    secret, named = head
    server = await listening(node(tmp_path / "head", named, secret), "127.0.0.7")
    worker = node(tmp_path / "worker", "127.0.0.9")
    address = f"127.0.0.7:{server.sockets[0].getsockname()[1]}"
    async with server, asyncio.timeout(5):
        if told is None:
            await worker.check(address)
        else:
            with pytest.raises(RayBroken, match=f"do not take each other's certificates .*{told}"):
                await worker.check(address)


async def test_a_head_that_refuses_this_node_is_told_at_once(tmp_path):
    head = node(tmp_path / "head", "127.0.0.7")
    theirs = node(tmp_path / "worker", "127.0.0.9", OTHER)
    theirs.authority.write_bytes(head.authority.read_bytes())  # it takes the head's, and the head not its own
    server = await listening(head, "127.0.0.7")
    async with server, asyncio.timeout(5):
        with pytest.raises(RayBroken, match="do not take each other's certificates"):
            await theirs.check(f"127.0.0.7:{server.sockets[0].getsockname()[1]}")


async def test_a_head_without_tls_is_told_and_one_that_is_not_there_is_left_to_ray(tmp_path):
    async def speak(_, writer):
        writer.write(b"settings")
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.7", 0)
    address = f"127.0.0.7:{server.sockets[0].getsockname()[1]}"
    worker = node(tmp_path / "worker", "127.0.0.9")
    async with server:
        with pytest.raises(RayBroken, match="something between them ends TLS"):
            await worker.check(address)
    await worker.check(address)


@pytest.mark.slow
def test_nodes_of_one_attempt_form_a_cluster_by_tls_and_a_strange_one_neither_joins_nor_holds_it_up(
    gateway_double, container
):
    double = gateway_double(workers=2)
    double.node_secret = SECRET
    strange = gateway_double(workers=2)
    strange.node_secret = OTHER
    driver = WHERE.replace("NODES", "2") + "\nprint(os.environ['RAY_USE_TLS'])\nfinish()"
    with ExitStack() as stack:
        head = stack.enter_context(container(double, 0, driver=driver, ray=None))
        until(lambda: double.head is not None, 60)
        strange.head = double.head
        stranger = stack.enter_context(container(strange, 2, ray=None))
        worker = stack.enter_context(container(double, 1, ray=None))
        assert stranger.wait(20) == 2
        assert strange.log(2).startswith(f"worker 2: the node at {double.head.address} and this one do not take each")
        assert head.wait(60) == 0
        assert worker.wait(10) == 0
    assert double.manifest.succeeded, double.manifest
    assert len(nodes_of(double)) == 2
    assert "1" in double.log(0).splitlines(), "who joins Ray knows of it"
