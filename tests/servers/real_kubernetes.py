"""The control plane of a real Kubernetes on loopback, from given programs: etcd, API server with RBAC, controllers.

Nothing is made of its pods until tests.servers.kubelet works for it.
"""

import contextlib
import json
import secrets
import ssl
import subprocess
import time
from pathlib import Path

import httpx2
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.servers.kubelet import NAMESPACE, kubeconfig
from tests.servers.processes import WAIT, free_ports, running

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
CONTROLLERS = (
    "garbagecollector",
    "job",
    "namespace",
    "resourcequota",
    "serviceaccount",
    "serviceaccount-token",
    "ttl-after-finished",
)
_FIRST_WITH_TTL = 21
"""Before 1.21 a gate has to be opened for Jobs that go by themselves."""


class ControlPlane:
    """Its programs, and how to come in."""

    def __init__(self, folder, binaries):
        self.folder, self.binaries = folder, Path(binaries)
        missing = [name for name in PROGRAMS if not (self.binaries / name).is_file()]
        assert not missing, f"{binaries} has no {', '.join(missing)}"
        self.version = self._says("kube-apiserver", "--version").split()[-1]
        self._etcd, self._peers, self._port, self._controllers = free_ports(4)
        self.url = f"https://127.0.0.1:{self._port}"
        self._server = contextlib.ExitStack()
        self._key, self._tokens = folder / "accounts.pem", folder / "tokens.csv"
        self._authority = folder / "certificates" / "apiserver.crt"
        self._admin = secrets.token_hex(16)

    def versions(self):
        return {
            "kubernetes": self.version,
            "etcd": self._says("etcd", "--version").splitlines()[0].split()[-1],
            "kubectl": json.loads(self.kubectl("version", "--client", "--output=json"))["clientVersion"]["gitVersion"],
        }

    @contextlib.contextmanager
    def up(self):
        key = rsa.generate_private_key(65537, 2048)
        form = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        self._key.write_bytes(key.private_bytes(*form))
        self._tokens.write_text(f'{self._admin},admin,admin,"system:masters"\n')
        self.configuration = kubeconfig(self.folder / "admin.json", self.url, self._authority, token=self._admin)
        with running(self._store(), ports=[self._etcd], log=self.folder / "etcd.log"), self._server:
            self.start()
            with running(self._control(), ports=[self._controllers], log=self.folder / "controllers.log"):
                yield self

    def start(self):
        """Start the API server, again if it was stopped."""
        self._server.enter_context(running(self._serve(), ports=[self._port], log=self.folder / "kube-apiserver.log"))
        end = time.monotonic() + WAIT
        while not self._ready():
            assert time.monotonic() < end, (self.folder / "kube-apiserver.log").read_text()[-2000:]
            time.sleep(0.1)

    def stop(self):
        self._server.close()

    def kubectl(self, *arguments, configuration=None, **options):
        """What it prints; asked as an administrator without another configuration."""
        given = [self.binaries / "kubectl", f"--kubeconfig={configuration or self.configuration}", *arguments]
        ran = subprocess.run(given, text=True, capture_output=True, check=False, timeout=60, **options)
        assert ran.returncode == 0, f"kubectl {' '.join(map(str, arguments))}: {ran.stderr}"
        return ran.stdout

    def account(self, name):
        """A kubeconfig with a service account's token."""
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{name}/token"
        made = json.loads(self.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(request)))
        return kubeconfig(self.folder / f"{name}.json", self.url, self._authority, token=made["status"]["token"])

    def _says(self, program, *arguments):
        return subprocess.run(
            [self.binaries / program, *arguments], text=True, capture_output=True, check=True
        ).stdout.strip()

    def _ready(self):
        trust = ssl.create_default_context(cafile=self._authority)
        headers = {"Authorization": f"Bearer {self._admin}"}
        with contextlib.suppress(httpx2.HTTPError):
            return httpx2.get(f"{self.url}/readyz", headers=headers, verify=trust).is_success
        return False

    def _gates(self):
        old = int(self.version.split(".")[1]) < _FIRST_WITH_TTL
        return ["--feature-gates=TTLAfterFinished=true"] if old else []

    def _store(self):
        here, peers = f"http://127.0.0.1:{self._etcd}", f"http://127.0.0.1:{self._peers}"
        return [
            self.binaries / "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={here}",
            f"--advertise-client-urls={here}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
        ]

    def _serve(self):
        return [
            self.binaries / "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self._port}",
            f"--cert-dir={self._authority.parent}",
            "--authorization-mode=RBAC",
            f"--token-auth-file={self._tokens}",
            f"--service-account-issuer={self.url}",
            f"--service-account-key-file={self._key}",
            f"--service-account-signing-key-file={self._key}",
            "--service-cluster-ip-range=10.0.0.0/24",
            *self._gates(),
        ]

    def _control(self):
        return [
            self.binaries / "kube-controller-manager",
            f"--kubeconfig={self.configuration}",
            f"--controllers={','.join(CONTROLLERS)}",
            f"--service-account-private-key-file={self._key}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._controllers}",
            f"--cert-dir={self.folder / 'controllers'}",
            *(["--port=0"] if self._gates() else []),
            *self._gates(),
        ]


@contextlib.contextmanager
def control_plane(folder, binaries):
    """Ready to be asked."""
    folder.mkdir(parents=True, exist_ok=True)
    with ControlPlane(folder, binaries).up() as made:
        yield made
