"""What can be set on the gateway, each with its default. The one module of the gateway that reads the environment."""

import os
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def default_home() -> Path:
    """`$XDG_DATA_HOME/flaregate`, or `~/.local/share/flaregate`."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "flaregate"


class PlatformQuota(BaseModel):
    """What all runs of this gateway together may have."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    cpus: float | None = Field(default=None, gt=0)
    memory: int | None = Field(default=None, gt=0)
    instances: int | None = Field(default=None, gt=0)
    runs: int | None = Field(default=None, gt=0)


class PlatformPrice(BaseModel):
    """What a container costs, from its start to its end."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    vcpu_second: Decimal = Field(ge=0)
    gib_second: Decimal = Field(ge=0)
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    source: str


def given_url() -> str | None:
    """The address that Code Engine gives an application, which it tells in three variables; None elsewhere."""
    parts = [os.environ.get(name) for name in ("CE_APP", "CE_SUBDOMAIN", "CE_DOMAIN")]
    return f"https://{'.'.join(map(str, parts))}" if all(parts) else None


class Settings(BaseSettings):
    """The gateway's settings: `FLAREGATE_` and the name in capitals sets one."""

    model_config = SettingsConfigDict(env_prefix="FLAREGATE_", frozen=True, extra="ignore")

    home: Path = Field(default_factory=default_home, description="Folder with all state; made with mode 0700.")
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(
        default=0, ge=0, le=65535, description="Port to listen on; 0 takes the last one again, or a free one."
    )
    embedded: bool = Field(default=False, description="End, with all jobs, when the last program that opened it ends.")
    public_url: str | None = Field(
        default_factory=given_url,
        description="Address under which clients and containers reach it; an application of Code Engine knows its own.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Further names in the Host header to answer to, separated by commas."
    )
    launcher: Literal["local", "container", "code_engine", "kubernetes", "aws_batch"] = Field(
        default="local",
        description="Where containers run: `local`, processes of this machine; `container`, containers of Docker or "
        "Podman; `code_engine`, job runs of IBM Cloud Code Engine; `kubernetes`, Jobs of a namespace; `aws_batch`, "
        "multi-node jobs of AWS Batch.",
    )
    gateway: str = Field(
        default="main",
        pattern=r"^[a-z0-9]{1,12}$",
        description="Whose runs these are on the platform: another gateway there has another name, replicas the same.",
    )
    platform_lease: float = Field(
        default=600, ge=30, description="Remote platforms: seconds without an answer after which a container ends."
    )
    platform_quota: PlatformQuota | None = Field(
        default=None,
        description="Remote platforms: what all runs together may have, beyond which jobs wait for their turn; JSON: "
        '`{"cpus": 64, "memory": 256000000000, "instances": 40, "runs": 20}`, or some of these.',
    )
    platform_price: PlatformPrice | None = Field(
        default=None,
        description="Remote platforms: what a container costs, where it is not the platform's list price; JSON: "
        '`{"vcpu_second": "0.00001", "gib_second": "0.000002", "currency": "EUR", "source": "our contract, 2026-11"}`.',
    )
    worker_environment: dict[str, str] = Field(
        default={},
        description="Remote platforms: what the worker's image has, as its label `io.flaregate.environment` says.",
    )
    container_socket: str = Field(
        default="unix:///var/run/docker.sock", description="Container: where the Docker Engine API is served."
    )
    container_image: str | None = Field(default=None, description="Container: the worker's image.")
    container_connect: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Container: containers that join each run's network, so that runs reach them: the gateway's own, "
        "the store's; separated by commas.",
    )
    container_hosts: dict[str, str] = Field(
        default={}, description='Container: further names in the containers; JSON: `{"gateway.example": "10.0.0.7"}`.'
    )
    container_ca: Path | None = Field(
        default=None, description="Container: PEM file on the containers' machine by which they know the gateway's TLS."
    )
    code_engine_project: str | None = Field(default=None, description="Code Engine: id of the project.")
    code_engine_region: str = Field(default="us-south", description="Code Engine: its region.")
    code_engine_job: str = Field(
        default="flaregate-worker", description="Code Engine: the job with the worker's image; runs are made of it."
    )
    code_engine_key: SecretStr | None = Field(
        default=None, description="Code Engine: an API key of IAM that may write in the project."
    )
    code_engine_url: str | None = Field(default=None, description="Code Engine: the API, where it is not the region's.")
    code_engine_iam_url: str | None = Field(default=None, description="Code Engine: IAM, where it is not IBM's.")
    code_engine_peer_tcp: bool = Field(
        default=True, description="Code Engine: whether instances of a project reach each other by TCP."
    )
    aws_batch_queue: str | None = Field(default=None, description="AWS Batch: the job queue, on EC2.")
    aws_batch_image: str | None = Field(
        default=None, description="AWS Batch: the worker's image; job definitions are registered, one for each size."
    )
    aws_batch_job_definition: str | None = Field(
        default=None, description="AWS Batch: or a multi-node definition of your own, with one node range `0:`."
    )
    aws_batch_region: str | None = Field(
        default=None, description="AWS Batch: region of the queue; without it what AWS's own configuration says."
    )
    aws_batch_endpoint: str | None = Field(
        default=None, pattern=r"^https?://[^/?#]+/?$", description="AWS Batch: URL of the API, where it is not AWS's."
    )
    kubernetes_namespace: str = Field(default="flaregate", description="Kubernetes: where Jobs are made.")
    kubernetes_image: str | None = Field(default=None, description="Kubernetes: the worker's image.")
    kubernetes_config: Path | None = Field(
        default=None, description="Kubernetes: a kubeconfig file; without it the gateway's own service account."
    )
    kubernetes_service_account: str | None = Field(
        default=None, description="Kubernetes: of the workers' pods; its token is not mounted."
    )
    kubernetes_pull_secrets: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Kubernetes: secrets for the image's registry, separated by commas."
    )
    kubernetes_node_selector: dict[str, str] = Field(
        default={}, description='Kubernetes: labels of the nodes for workers; JSON: `{"pool": "batch"}`.'
    )
    kubernetes_tolerations: tuple[dict[str, Any], ...] = Field(
        default=(), description="Kubernetes: tolerations of the workers' pods; JSON."
    )
    kubernetes_gpu_resource: str = Field(
        default="nvidia.com/gpu",
        pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$",
        description="Kubernetes: the resource of which a job's gpus are asked for.",
    )
    store: Literal["folder", "s3"] = Field(
        default="folder", description="Where objects are kept: `folder`, in the home folder; `s3`, in a bucket."
    )
    s3_bucket: str | None = Field(default=None, description="S3: the bucket, which has to exist.")
    s3_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^/?#]+/?$",
        description="S3: URL of the service; without it AWS. Clients and containers reach it under this address too.",
    )
    s3_region: str | None = Field(
        default=None, description="S3: region of the bucket; without it what AWS's own configuration says."
    )
    s3_prefix: str = Field(default="", description="S3: what all keys begin with; several gateways can share a bucket.")
    s3_addressing: Literal["path", "virtual"] | None = Field(
        default=None,
        description="S3: whether the bucket is in the path or in the host of URLs; without it `path` with an endpoint, "
        "`virtual` on AWS.",
    )
    s3_access_key: str | None = Field(
        default=None, description="S3: id of the key; without it AWS's own chain (environment, profile, role)."
    )
    s3_secret_key: SecretStr | None = Field(default=None, description="S3: its secret.")
    s3_ca: Path | None = Field(
        default=None, description="S3: PEM file of the authorities that the service's certificate may have."
    )
    s3_encryption: Literal["AES256", "aws:kms"] | None = Field(
        default=None, description="S3: how the service encrypts what it keeps; without it as the bucket says."
    )
    s3_kms_key: str | None = Field(
        default=None, description="S3: id of the key for `aws:kms`; without it the bucket's."
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="`postgresql://USER:PASSWORD@HOST/DATABASE`, which several gateways may share; without it SQLite "
        "in the home folder.",
    )
    secret: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="What signs attempts' tokens and URLs; the same for all gateways on one database. Without it the "
        "home's own.",
    )
    token: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="The owner's token; the same for all gateways on one database. Without it the home's own.",
    )
    hold: float = Field(
        default=15,
        ge=1,
        description="Seconds in which others on its database take over the jobs of a gateway that is silent.",
    )

    references: dict[str, tuple[str, ...]] = Field(
        default={},
        description="Files that jobs may read as s3:// references, with the gateway's key, by tenant (`*`: all); JSON: "
        '`{"*": ["s3://bucket/folder/"]}`.',
    )
    references_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^/?#]+/?$",
        description="URL of the S3 service of these files; without it the store's, or AWS.",
    )
    references_region: str | None = Field(default=None, description="Region of these buckets; without it the store's.")
    references_access_key: str | None = Field(
        default=None,
        description="Id of the key that reads these files; without it the store's, or with an endpoint of their own "
        "AWS's own chain.",
    )
    references_secret_key: SecretStr | None = Field(default=None, description="Its secret.")
    reference_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="`host:port` that https:// references may name though they are not public, separated by commas.",
    )
    cache_bytes: int = Field(
        default=10 * 1024**3, ge=0, description="Bytes of the cache at most; what was not used for longest goes first."
    )
    cache_age: float | None = Field(
        default=None, gt=0, description="Seconds after which what nobody used goes from the cache; none: never."
    )
    keep: float | None = Field(
        default=None, gt=0, description="Seconds that jobs and what they left are kept after their end; none: for ever."
    )
    keep_by_tenant: dict[str, Annotated[float, Field(gt=0)] | Literal["forever"]] = Field(
        default={}, description='As `keep`, for some tenants: `{"ci": 86400, "research": "forever"}`.'
    )
    garbage_age: float = Field(
        default=86_400,
        ge=3600,
        description="Seconds after which staged data and objects that nothing refers to go, and "
        "packages that no job of the local launcher has used.",
    )
    gc_interval: float = Field(
        default=21_600, gt=0, description="Seconds between searches of the store for objects that nothing refers to."
    )
    stream_age: float = Field(default=240, gt=0, description="Seconds after which a stream asks to be resumed.")
    streams: int = Field(default=2000, gt=0, description="Streams that one tenant may have open at this gateway.")
    heartbeat: float = Field(default=15, gt=0, description="Seconds between comments in a silent stream.")
    url_age: float = Field(default=900, gt=0, description="Seconds that a presigned URL is good for.")
    tick: float = Field(default=0.25, gt=0, description="Seconds between looks at the platform while jobs are active.")
    reap_interval: float = Field(default=30, gt=0, description="Seconds between searches for runs that no job owns.")
    awake: float | None = Field(
        default=None,
        gt=0,
        description="Where the platform ends a gateway that is asked for nothing: seconds between requests to its own "
        "public_url while there is work of which no container will tell; none: it sends none.",
    )
    launch_timeout: float = Field(default=120, gt=0, description="Seconds in which a launched head has to report.")
    join_timeout: float = Field(default=60, gt=0, description="Seconds that workers have to join the head.")
    node_tls: bool | None = Field(
        default=None,
        description="Whether the nodes of a cluster speak TLS with each other; none: where others may listen on the "
        "launcher's network, as on Code Engine, Kubernetes and AWS Batch.",
    )
    grace: float = Field(default=5, ge=0, description="Seconds between asking containers to end and ending them.")
    linger: float | None = Field(
        default=None,
        ge=0,
        description="Seconds that containers have to end themselves after the commit; none: as long "
        "as the launcher's platform takes.",
    )
    spare: float = Field(
        default=0,
        ge=0,
        description="Embedded: seconds that a head, started with the gateway, waits for the first job; 0 starts none.",
    )
    openers_wait: float = Field(default=10, gt=0, description="Embedded: seconds to wait for the first program.")
    openers_interval: float = Field(default=0.5, gt=0, description="Embedded: seconds between looks at its programs.")
    ending: float = Field(default=8, gt=0, description="Embedded: seconds to end its jobs before they are forced.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="What is logged.")

    @model_validator(mode="after")
    def _folders_of_references(self) -> Self:
        own = f"s3://{self.s3_bucket}/{self.s3_prefix.strip('/')}".rstrip("/") + "/"
        kept_there = self.s3_bucket and self.references_endpoint in (None, self.s3_endpoint)
        for place in (one for places in self.references.values() for one in places):
            if not place.startswith("s3://") or not place.endswith("/"):
                msg = f"FLAREGATE_REFERENCES: {place!r} is no folder; write s3://bucket/ or s3://bucket/folder/"
                raise ValueError(msg)
            if kept_there and (place.startswith(own) or own.startswith(place)):
                msg = f"FLAREGATE_REFERENCES: {place!r} has what this gateway keeps of all tenants; name other folders"
                raise ValueError(msg)
        if (self.references_access_key is None) != (self.references_secret_key is None):
            msg = "set both, FLAREGATE_REFERENCES_ACCESS_KEY and FLAREGATE_REFERENCES_SECRET_KEY"
            raise ValueError(msg)
        return self

    @field_validator("reference_hosts", "allowed_hosts", "container_connect", "kubernetes_pull_secrets", mode="before")
    @classmethod
    def _split(cls, given: Any) -> Any:
        return tuple(part.strip() for part in given.split(",") if part.strip()) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _whole_store(self) -> Self:
        given = self.model_fields_set
        named = sorted(f"FLAREGATE_{name.upper()}" for name in given if name.startswith("s3_") and getattr(self, name))
        if self.store != "s3" and named:
            raise ValueError(f"{', '.join(named)} without FLAREGATE_STORE=s3: set that too, or none of them")
        if self.store == "s3" and not self.s3_bucket:
            raise ValueError("FLAREGATE_STORE=s3 needs FLAREGATE_S3_BUCKET, the bucket for all objects")
        if (self.s3_access_key is None) != (self.s3_secret_key is None):
            raise ValueError("set both, FLAREGATE_S3_ACCESS_KEY and FLAREGATE_S3_SECRET_KEY, or neither")
        if self.s3_kms_key is not None and self.s3_encryption != "aws:kms":
            raise ValueError("FLAREGATE_S3_KMS_KEY is for FLAREGATE_S3_ENCRYPTION=aws:kms: set that too")
        if self.s3_ca is not None and not self.s3_ca.is_file():
            raise ValueError(f"FLAREGATE_S3_CA: there is no file {self.s3_ca}")
        return self

    @model_validator(mode="after")
    def _whole_launcher(self) -> Self:
        needed = {
            "container": ("container_image",),
            "code_engine": ("code_engine_project", "code_engine_key"),
            "aws_batch": ("aws_batch_queue",),
            "kubernetes": ("kubernetes_image",),
        }
        for name in needed.get(self.launcher, ()):
            if not getattr(self, name):
                raise ValueError(f"FLAREGATE_LAUNCHER={self.launcher} needs FLAREGATE_{name.upper()}")
        if self.launcher == "aws_batch" and bool(self.aws_batch_image) == bool(self.aws_batch_job_definition):
            raise ValueError("set one of FLAREGATE_AWS_BATCH_IMAGE and FLAREGATE_AWS_BATCH_JOB_DEFINITION")
        if self.awake is not None and self.public_url is None:
            raise ValueError("FLAREGATE_AWAKE needs FLAREGATE_PUBLIC_URL, the address that the platform gives it")
        for name in ("platform_quota", "platform_price"):
            if getattr(self, name) is not None and self.launcher == "local":
                raise ValueError(f"FLAREGATE_{name.upper()} is for remote platforms: set FLAREGATE_LAUNCHER to one")
        if self.spare and self.launcher != "local":
            raise ValueError("FLAREGATE_SPARE is for FLAREGATE_LAUNCHER=local: elsewhere a head that waits is paid for")
        return self

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url.get_secret_value() if self.database_url else f"sqlite:///{self.home / 'gateway.db'}"


class SettingsRefused(Exception):
    """Settings that cannot be used; the message has a line for each."""


def load() -> Settings:
    """The settings of this process' environment. Raises SettingsRefused."""
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsRefused("\n".join(_line(found) for found in error.errors(include_input=False))) from error


def _line(found: Any) -> str:
    message = str(found["msg"]).removeprefix("Value error, ")
    name, *inside = (str(part) for part in found["loc"]) if found["loc"] else ("",)
    return f"FLAREGATE_{name.upper()}: {''.join(f'{part}: ' for part in inside)}{message}" if name else message


def inherited() -> dict[str, str]:
    """This process' environment, of which the local launcher passes a little on."""
    return dict(os.environ)
