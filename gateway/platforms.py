"""The one place that names concrete launchers: makes the one that is set, and loads its SDK only then."""

from gateway.home import Home, drops_in
from gateway.launchers.base import NO_QUOTA, Launcher, Price, Quota
from gateway.launchers.local import LocalLauncher
from gateway.settings import Settings, inherited


def launcher(settings: Settings) -> Launcher:
    """The launcher. Raises LaunchRefused or CannotSee where its platform cannot be used."""
    match settings.launcher:
        case "local":
            return _local(settings)
        case "container":
            return _container(settings)
        case "code_engine":
            return _code_engine(settings)
        case "aws_batch":
            return _aws_batch(settings)
        case "kubernetes":
            return _kubernetes(settings)


def _local(settings: Settings) -> LocalLauncher:
    home = Home(settings.home)
    local = LocalLauncher(home.path, inherited(), drops=drops_in(home.store) if settings.store == "folder" else None)
    if settings.spare:
        local.spare(f"http://{settings.host}", settings.spare)
    return local


def _quota(settings: Settings, default: Quota = NO_QUOTA) -> Quota:
    given = settings.platform_quota
    return default if given is None else Quota(**given.model_dump())


def _price(settings: Settings, default: Price | None = None) -> Price | None:
    given = settings.platform_price
    return default if given is None else Price(**given.model_dump())


def _container(settings: Settings) -> Launcher:
    from gateway.launchers.container import ContainerLauncher, ContainerSettings  # noqa: PLC0415

    return ContainerLauncher(
        ContainerSettings(
            socket=settings.container_socket,
            image=str(settings.container_image),
            gateway=settings.gateway,
            connect=settings.container_connect,
            hosts=settings.container_hosts,
            ca_bundle=settings.container_ca,
            quota=_quota(settings),
            price=_price(settings),
        )
    )


def _code_engine(settings: Settings) -> Launcher:
    from gateway.launchers.code_engine import PRICE, QUOTA, CodeEngineLauncher, CodeEngineSettings  # noqa: PLC0415

    key = settings.code_engine_key
    return CodeEngineLauncher(
        CodeEngineSettings(
            project=str(settings.code_engine_project),
            region=settings.code_engine_region,
            gateway=settings.gateway,
            job=settings.code_engine_job,
            key=key.get_secret_value() if key else "",
            url=settings.code_engine_url,
            iam_url=settings.code_engine_iam_url,
            peer_tcp=settings.code_engine_peer_tcp,
            lease=settings.platform_lease,
            environment=settings.worker_environment,
            quota=_quota(settings, QUOTA),
            price=_price(settings, PRICE),
        )
    )


def _aws_batch(settings: Settings) -> Launcher:
    from gateway.launchers.aws_batch import AwsBatchLauncher, AwsBatchSettings  # noqa: PLC0415

    return AwsBatchLauncher(
        AwsBatchSettings(
            queue=str(settings.aws_batch_queue),
            gateway=settings.gateway,
            image=settings.aws_batch_image,
            job_definition=settings.aws_batch_job_definition,
            region=settings.aws_batch_region,
            endpoint=settings.aws_batch_endpoint,
            lease=settings.platform_lease,
            environment=settings.worker_environment,
            quota=_quota(settings),
            price=_price(settings),
        )
    )


def _kubernetes(settings: Settings) -> Launcher:
    from gateway.launchers.kubernetes import KubernetesLauncher, KubernetesSettings  # noqa: PLC0415

    return KubernetesLauncher(
        KubernetesSettings(
            namespace=settings.kubernetes_namespace,
            image=str(settings.kubernetes_image),
            gateway=settings.gateway,
            kubeconfig=None if settings.kubernetes_config is None else str(settings.kubernetes_config),
            service_account=settings.kubernetes_service_account,
            image_pull_secrets=settings.kubernetes_pull_secrets,
            node_selector=settings.kubernetes_node_selector,
            tolerations=settings.kubernetes_tolerations,
            gpu_resource=settings.kubernetes_gpu_resource,
            lease=settings.platform_lease,
            environment=settings.worker_environment,
            quota=_quota(settings),
            price=_price(settings),
        )
    )
