"""Jobs whose containers do not start, and what they learn of it."""

from dataclasses import dataclass, field, replace

import pytest

from gateway.launchers.base import ImageRefused, Phase, Trouble
from tests.doubles import InstantLauncher, until
from tests.servers.databases import BOTH

DATABASES = BOTH


@dataclass
class Unable(InstantLauncher):
    """Cannot start the containers of these numbers."""

    unable: dict = field(default_factory=dict)

    async def launch(self, order):
        handle = await super().launch(order)
        run = self.runs[order.attempt]
        for index, trouble in self.unable.items():
            if index in run:
                run[index] = replace(
                    run[index], phase=Phase.PENDING, started=None, trouble=trouble, story="ErrImagePull"
                )
        return handle

    def mend(self, attempt):
        """The registry is back."""
        self.unable.clear()
        run = self.runs[attempt]
        run.update({i: replace(one, phase=Phase.RUNNING, started=self.clock(), trouble=None) for i, one in run.items()})


async def submit(gateway, workers=1, needed=1):
    resources = {"workers": workers, "min_workers": needed, "cpus": 1}
    return await gateway.submit(resources=resources, limits={"retries": 0})


async def conditions(gateway, job):
    return {one["name"]: one["message"] for one in (await gateway.view(job))["conditions"]}


async def test_a_job_that_waits_for_a_worker_whose_image_there_is_not_fails_at_once(deploy):
    gateway = deploy(Unable(unable={1: Trouble.IMAGE_PULL}))
    view = await gateway.ended(await submit(gateway))
    assert (view["state"], view["reason"]) == ("failed", "image_pull_failed")
    assert view["message"] == (
        "the image cannot be pulled (ErrImagePull): worker 1 does not start, and min_workers is 1"
    )
    assert await gateway.launcher.list() == []


async def test_a_job_that_has_enough_workers_goes_on_and_tells_why_one_never_came(deploy):
    gateway = deploy(Unable(unable={2: Trouble.IMAGE_PULL}))
    job = await submit(gateway, workers=2)
    head = await gateway.head(job)
    await until(lambda: _lost(gateway, job))
    await head.commit()
    assert (await gateway.ended(job))["state"] == "succeeded"
    told = [(one["index"], one["detail"]) for one in await gateway.events(job) if one.get("phase") == "lost"]
    assert told == [(2, {"trouble": "image_pull", "story": "ErrImagePull"})]
    assert [order.indices for order in gateway.launcher.orders] == [(0, 1, 2)], "another would not start either"


async def _lost(gateway, job):
    return (await gateway.repository.attempt(f"{job}-1")).lost


@pytest.mark.parametrize("index", [0, 1])
async def test_a_registry_that_is_away_for_a_moment_ends_nothing(deploy, index):
    gateway = deploy(Unable(unable={index: Trouble.IMAGE_RETRIED}))
    job = await submit(gateway)
    who = ["the head", "worker 1"][index]
    await until(lambda: conditions(gateway, job))
    assert await conditions(gateway, job) == {"not_starting": f"{who}: ErrImagePull"}
    gateway.clock.pass_by(19)
    looks = gateway.launcher.looks
    await until(lambda: gateway.launcher.looks > looks + 2)
    gateway.launcher.mend(f"{job}-1")
    await until(lambda: _mended(gateway, job))
    gateway.clock.pass_by(19)
    head = await gateway.head(job)
    await head.commit()
    assert (await gateway.ended(job))["state"] == "succeeded"


async def _mended(gateway, job):
    return not await conditions(gateway, job)


@pytest.mark.parametrize(
    ("index", "trouble", "reason"),
    [
        (0, Trouble.IMAGE_RETRIED, "image_pull_failed"),
        (1, Trouble.IMAGE_RETRIED, "image_pull_failed"),
        (1, Trouble.MISCONFIGURED, "platform_error"),
    ],
)
async def test_one_that_stays_away_ends_the_job_long_before_its_deadline(deploy, index, trouble, reason):
    gateway = deploy(Unable(unable={index: trouble}))
    job = await submit(gateway)
    await until(lambda: conditions(gateway, job))
    gateway.clock.pass_by(20)
    view = await gateway.ended(job)
    assert (view["state"], view["reason"]) == ("failed", reason)
    assert "ErrImagePull" in view["message"]


async def test_a_platform_that_has_no_such_image_is_told_as_such(deploy):
    class Without(InstantLauncher):
        async def launch(self, order):
            raise ImageRefused("there is no image 'worker:1'")

    gateway = deploy(Without())
    view = await gateway.ended(await submit(gateway))
    assert (view["reason"], view["message"]) == ("image_pull_failed", "there is no image 'worker:1'")
