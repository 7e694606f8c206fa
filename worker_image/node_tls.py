"""TLS between the nodes of one attempt. The one module that imports cryptography, and only where nodes need it.

All containers of an attempt are given the same secret, and make the same authority of it; its key is never sent, nor
written to a file. Each signs a certificate of its own, which names the address on which its Ray listens, because that
is what Ray checks, on both sides.
"""

import asyncio
import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from worker_image.ray_cluster import RayBroken

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the group of P-256 (FIPS 186-4, D.1.2.3)."""
_SLACK = timedelta(days=1)
"""By which the clocks of machines may differ."""
_CHECK_SECONDS = 10.0
_HERE = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class NodeTls:
    """Files of one node, in PEM."""

    authority: Path
    certificate: Path
    key: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """What Ray, and whoever joins it, is started with."""
        return {
            "RAY_USE_TLS": "1",
            "RAY_TLS_CA_CERT": str(self.authority),
            "RAY_TLS_SERVER_CERT": str(self.certificate),
            "RAY_TLS_SERVER_KEY": str(self.key),
        }

    async def check(self, address: str) -> None:
        """See whether the Ray at `host:port` and this node take each other's certificates. Raises RayBroken.

        Ray itself would try for more than a minute, and not say why. One that does not answer at all is left to it.
        """
        host, _, port = address.rpartition(":")
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                reader, writer = await asyncio.open_connection(host, int(port), ssl=self._context())
                try:
                    heard = await reader.read(1)  # a server of HTTP/2 speaks first, once it has taken the certificate
                finally:
                    writer.transport.abort()
        except (ssl.SSLError, ConnectionResetError) as exc:
            raise RayBroken(_refused(address, str(exc))) from exc
        except (OSError, TimeoutError):
            return
        if not heard:
            raise RayBroken(_refused(address, "it hung up"))

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority))
        context.load_cert_chain(self.certificate, self.key)
        context.set_alpn_protocols(["h2"])
        return context


def mint(secret: str, address: str, folder: Path, now: datetime, until: datetime) -> NodeTls:
    """A certificate for the node at this IP address, and the authority of the attempt.

    Args:
        secret: The attempt's.
        address: On which Ray listens.
        folder: A new folder for the files, which nobody else may read.
        now: The time.
        until: When the attempt is over at the latest.
    """
    from cryptography import x509  # noqa: PLC0415 - it takes a while, and most nodes do without
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    number = int.from_bytes(hashlib.sha512(secret.encode()).digest()) % (_ORDER - 1) + 1
    of_attempt, own = ec.derive_private_key(number, ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "flaregate attempt")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(one)) for one in dict.fromkeys((address, _HERE))])

    def signed(subject: str, key: ec.EllipticCurvePrivateKey, *, authority: bool) -> bytes:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
        builder = (
            x509.CertificateBuilder(issuer, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - _SLACK)
            .not_valid_after(until + _SLACK)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        )
        if not authority:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(of_attempt, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    folder.mkdir(mode=0o700)
    made = NodeTls(folder / "authority.pem", folder / "node.pem", folder / "node.key")
    made.authority.write_bytes(signed("flaregate attempt", of_attempt, authority=True))
    made.certificate.write_bytes(signed(f"flaregate node {address}", own, authority=False))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    made.key.write_bytes(own.private_bytes(*form))
    return made


def _refused(address: str, why: str) -> str:
    return (
        f"the node at {address} and this one do not take each other's certificates ({why}): "
        "they are not of one attempt, or something between them ends TLS"
    )
