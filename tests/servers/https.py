"""A web server on loopback with a certificate of its own making: files with ETags and ranges, redirects, faults."""

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAME = "files.example"


@dataclass
class Page:
    """A file, or what is answered in its place."""

    data: bytes = b""
    etag: str | None = '"1"'
    status: int = 200
    location: str | None = None
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    """After how many bytes the next answers are cut off."""
    etags: list[str] = field(default_factory=list)
    """Of the next answers, before `etag`."""
    before: Callable[[], object] = bool
    """What is done before an answer."""


class Web:
    """The server; `pages` may change while it runs."""

    def __init__(self, folder, name=NAME):
        self.pages = {}
        self.asked = []
        self.name = name
        key, certificate = folder / "key.pem", folder / "certificate.pem"
        make_certificate(name, key, certificate)
        self.certificate = certificate
        self.trust = ssl.create_default_context(cafile=certificate)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.web = self
        self._server.daemon_threads = False  # the end waits until their sockets are closed
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )  # a client that hangs up in its handshake must hold up its own thread alone
        self._server.handle_error = lambda *_: None  # a client that does not like the certificate
        self.port = self._server.server_address[1]
        self.host = f"{name}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def url(self, path):
        return f"https://{self.host}{path}"

    async def names(self, host, port):
        """What its name resolves to."""
        assert host == self.name
        return ["127.0.0.1"]

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5

    def log_message(self, *_):
        pass

    def do_GET(self):
        web = self.server.web
        web.asked.append((self.path, dict(self.headers)))
        page = web.pages.get(self.path, Page(status=404))
        page.before()
        partial = page.status == 200 and page.ranges and "Range" in self.headers
        begin, end = self._range(page) if partial else (0, len(page.data))
        body = page.data[begin:end]
        headers = {
            "Content-Range": f"bytes {begin}-{end - 1}/{len(page.data)}" if partial else None,
            "Location": page.location,
            "ETag": page.etags.pop(0) if page.etags else page.etag,
            "Content-Length": str(len(body)),
        }
        self.send_response(206 if partial else page.status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        cut = page.cuts.pop(0) if page.cuts and len(body) > 1 else len(body)
        self.wfile.write(body[:cut])
        self.close_connection = cut < len(body)

    def _range(self, page):
        begin, _, end = self.headers["Range"].removeprefix("bytes=").partition("-")
        return int(begin), min(int(end) + 1 if end else len(page.data), len(page.data))


def make_certificate(name, key_path, certificate_path):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key_path.write_bytes(key.private_bytes(*form))
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
