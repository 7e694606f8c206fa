"""How long things are kept: jobs and their time, blobs and who refers to them, what a sweep removes and says."""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from flaregate_wire.blobs import Part
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.states import State
from gateway.jobs import admission, migrations, moves
from gateway.jobs.errors import BlobMissing
from gateway.jobs.policy import Policy
from gateway.jobs.records import JOB
from gateway.jobs.retention import Retention
from gateway.launchers.local_packages import Packages
from tests import doubles
from tests.gateway.test_decisions import job as record
from tests.servers.databases import BOTH

DATABASES = BOTH

DAY = 86_400


def sha(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


async def stage(gateway, data):
    """Sent and complete."""
    offer = {"sha256": sha(data), "size": len(data), "media_type": "application/x-npy"}
    (upload,) = (await gateway.http.post("/v1/blobs", json=offer)).json()["upload"]
    assert (await gateway.anonymous.put(upload["url"], content=data, headers=upload["headers"])).status_code == 204
    assert (await gateway.http.post(f"/v1/blobs/{sha(data)}:complete")).status_code == 204
    return {"blob": sha(data), "media_type": "application/x-npy"}


async def staged(gateway, data):
    offer = {"sha256": sha(data), "size": len(data), "media_type": "application/x-npy"}
    return (await gateway.http.post("/v1/blobs", json=offer)).json()["exists"]


async def finished(gateway, definition, artifacts=(), **more):
    """A job that has ended, with its log and artifacts."""
    job = await gateway.submit(definition, **more)
    head = await gateway.head(job)
    await head.log(b"a line\n")
    left = [
        {"name": name, "key": await head.write(f"artifacts/{name}", data), "media_type": "application/x-npy"}
        | {"size": len(data), "sha256": sha(data)}
        for name, data in artifacts
    ]
    assert (await head.commit(artifacts=left)).status_code == 204
    await gateway.ended(job)
    await gateway.service.archiver.move_all()
    return job


async def keys(gateway):
    return sorted([item.key async for item in gateway.store.list("tenants/")])


async def gc(gateway, *, dry_run=False):
    answer = await gateway.http.post("/v1/gc", params={"dry_run": dry_run})
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert (report["dry_run"], report["whole"]) == (dry_run, True)
    return {item["kind"]: item for item in report["found"] if item["count"]}


async def test_packages_of_this_machine_go_and_are_told_with_the_rest(gateway, tmp_path):
    now_is_real(gateway)
    folder = tmp_path / "packages" / "sum-3.11"
    folder.mkdir(parents=True)
    (folder / "extra.py").write_text("x = 1")
    folder.with_suffix(".lock").touch()
    gateway.service.retention.packages = Packages(folder.parent)
    assert await gc(gateway) == {}, "somebody may have used them just now"
    gateway.clock.pass_by(DAY + 60)
    expected = {"packages": {"kind": "packages", "count": 1, "size": 5, "examples": ["sum-3.11"]}}
    assert await gc(gateway, dry_run=True) == expected
    assert folder.is_dir()
    assert await gc(gateway) == expected
    assert list(folder.parent.iterdir()) == []


def now_is_real(gateway):
    """Objects have the real time."""
    gateway.clock.time = datetime.now(UTC)


@pytest.mark.parametrize(
    ("policy", "wish", "seconds"),
    [
        ({}, None, None),
        ({}, 60, 60),
        ({"keep": 100}, None, 100),
        ({"keep": 100}, 5, 5),
        ({"keep": 100}, "forever", None),
        ({"keep": 100, "keep_by_tenant": {"default": 7, "ci": 1}}, None, 7),
        ({"keep": 100, "keep_by_tenant": {"default": "forever"}}, None, None),
        ({"keep_by_tenant": {"default": 7}}, 9.5, 9.5),
    ],
)
async def test_a_job_is_kept_as_long_as_it_says_or_the_gateway_is_set_to(deploy, definition, policy, wish, seconds):
    gateway = deploy(policy=policy)
    job = await gateway.submit(definition, **({} if wish is None else {"keep": wish}))
    assert "expires" not in await gateway.view(job), "while it runs its end is not known"
    await (await gateway.head(job)).commit()
    view = await gateway.ended(job)
    if seconds is None:
        assert "expires" not in view
    else:
        expires, ended = (datetime.fromisoformat(view[name]) for name in ("expires", "ended"))
        assert expires - ended == timedelta(seconds=seconds)


@pytest.mark.parametrize("keep", [0, -1, "never", 10**10, "1d"])
async def test_what_is_no_time_to_keep_is_refused(still, definition, keep):
    answer = await still.http.post("/v1/jobs", json=definition | {"keep": keep})
    assert answer.status_code == 422
    assert "/keep" in answer.text


async def test_when_its_time_is_over_a_job_goes_with_all_that_it_left(deploy, definition):
    gateway = deploy(policy={"keep": 100})
    job = await finished(gateway, definition, [("made", b"an array")])
    other = await finished(gateway, definition, keep="forever")
    live = await gateway.submit(definition, keep=1)
    await (await gateway.head(live)).log(b"running\n")
    gateway.clock.pass_by(99)
    assert await gc(gateway) == {}
    gateway.clock.pass_by(2)
    told = await gc(gateway, dry_run=True)
    size = len(b"an array") + len(b"a line\n")
    assert told == {"jobs": {"kind": "jobs", "count": 1, "size": size, "examples": [job]}}
    assert (await gateway.http.get(f"/v1/jobs/{job}")).status_code == 200, "it was only said"
    assert await gc(gateway) == told
    assert await gc(gateway) == {}
    assert (await gateway.http.get(f"/v1/jobs/{job}")).status_code == 404
    assert {key.split("/")[3] for key in await keys(gateway)} == {other, live}


async def test_an_artifact_stays_while_a_job_refers_to_it(deploy, definition):
    gateway = deploy(policy={"keep": 100})
    left = await finished(gateway, definition, [("made", b"an array")])
    x = {"artifact": f"job:{left}/made"}
    reader = await gateway.submit(definition, inputs=definition["inputs"] | {"X": x}, keep="forever")
    gateway.clock.pass_by(101)
    told = await gc(gateway, dry_run=True)
    assert told["jobs"]["size"] == len(b"a line\n"), "without what another job refers to"
    assert await gc(gateway) == told
    order = (await (await gateway.head(reader)).order()).json()
    assert (await gateway.anonymous.get(order["blobs"][sha(b"an array")]["url"])).content == b"an array"


async def test_staged_bytes_go_a_day_after_they_were_named_unless_a_job_refers_to_them(deploy, definition):
    gateway = deploy(policy={"keep": 10})
    x = await stage(gateway, b"of a job")
    await stage(gateway, b"of nobody")
    job = await gateway.submit(definition, inputs=definition["inputs"] | {"X": x})
    await stage(gateway, b"of nobody yet")
    gateway.clock.pass_by(DAY - 1)
    assert await staged(gateway, b"of nobody yet"), "which names it again"
    gateway.clock.pass_by(2)
    assert (await gc(gateway, dry_run=True))["blobs"]["examples"] == [sha(b"of nobody")]
    assert (await gc(gateway))["blobs"] == {"kind": "blobs", "count": 1, "size": 9, "examples": [sha(b"of nobody")]}
    assert [await staged(gateway, data) for data in (b"of a job", b"of nobody yet", b"of nobody")] == [
        True,
        True,
        False,
    ]
    await gateway.http.post(f"/v1/jobs/{job}/cancel")
    await gateway.ended(job)
    gateway.clock.pass_by(2 * DAY)
    first = await gc(gateway)
    assert (first["jobs"]["examples"], first["blobs"]["count"]) == ([job], 2)
    assert (await gc(gateway))["blobs"]["examples"] == [x["blob"]], "what only the job referred to is free now"
    assert [key for key in await keys(gateway) if "/blobs/" in key] == []


async def test_uploads_that_nobody_goes_on_with_are_given_up(still, tmp_path):
    parts = [{"sha256": sha(bytes([n]) * 2**24), "size": 2**24} for n in range(2)]
    offer = {"sha256": sha(b"whole"), "size": 2**25, "media_type": "a/b", "parts": parts}
    first = (await still.http.post("/v1/blobs", json=offer)).json()["upload"][0]
    sent = await still.anonymous.put(first["url"], content=bytes(2**24), headers=first["headers"])
    assert sent.status_code == 204
    still.clock.pass_by(DAY + 1)
    told = await gc(still, dry_run=True)
    assert (told["uploads"]["count"], told["uploads"]["size"]) == (1, 2**25)
    assert (await gc(still))["uploads"] == told["uploads"]
    assert list((tmp_path / "store" / "uploads").iterdir()) == []


async def test_an_upload_whose_gateway_was_killed_before_it_noted_it_is_given_up(still):
    now_is_real(still)
    part = Part(sha256=sha(b"x"), size=1)
    known = {"sha256": sha(b"y"), "size": 2**24, "media_type": "a/b", "parts": [{"sha256": sha(b"y"), "size": 2**24}]}
    await still.http.post("/v1/blobs", json=known)
    lost = await still.store.begin("tenants/default/blobs/lost", (part,))
    assert await gc(still) == {}
    still.clock.pass_by(DAY + 1)
    await still.http.post("/v1/blobs", json=known)
    told = await gc(still, dry_run=True)
    assert told["uploads"]["examples"] == ["tenants/default/blobs/lost"]
    assert await gc(still) == told
    assert lost not in [item.upload async for item in still.store.uploads("tenants/")]
    assert len([item async for item in still.store.uploads("tenants/")]) == 1


async def test_objects_that_no_row_names_go_when_they_are_old(gateway, definition):
    job = await finished(gateway, definition, [("made", b"an array")])
    live = await gateway.submit(definition)
    head = await gateway.head(live)
    mine = await head.write("artifacts/not-yet-committed", b"x")
    kept = await keys(gateway)

    async def nothing():
        yield b"stray"

    strays = [
        f"tenants/default/{place}" for place in ("blobs/1", "jobs/job-gone/events.ndjson", f"jobs/{job}/attempts/1/x")
    ]
    for key in (*strays, "tenants/other/blobs/1"):
        await gateway.store.put(key, nothing())
    now_is_real(gateway)
    assert "objects" not in await gc(gateway), "they may be somebody's who is about to name them"
    gateway.clock.pass_by(DAY + 1)
    told = await gc(gateway, dry_run=True)
    assert told["objects"] == {"kind": "objects", "count": 3, "size": 15, "examples": told["objects"]["examples"]}
    assert sorted(told["objects"]["examples"]) == sorted(strays)
    assert await gc(gateway) == told
    assert await keys(gateway) == sorted([*kept, "tenants/other/blobs/1"]), "another tenant's is not ours to remove"
    assert mine in kept
    counts = {one.kind: one.count for one in (await gateway.service.retention.sweep()).found}
    assert counts["objects"] == 1


async def test_what_a_running_job_has_written_stays_however_old_it_is(gateway, definition):
    job = await gateway.submit(definition)
    key = await (await gateway.head(job)).write("artifacts/made", b"made")
    late = datetime.now(UTC) + timedelta(days=99)
    service = gateway.service
    retention = Retention(gateway.repository, gateway.store, service.staging, service.cache, Policy(0), lambda: late)
    assert not any(found.count for found in (await retention.sweep()).found)
    assert await keys(gateway) == [key]


async def test_an_artifact_that_goes_while_a_job_is_submitted_is_not_referred_to(gateway, definition):
    left = await finished(gateway, definition, [("made", b"an array")])
    given = definition["inputs"] | {"X": {"artifact": f"job:{left}/made"}}
    asked = JobDefinition.model_validate(definition | {"inputs": given})
    resolved, needs = await gateway.service.staging.resolve("default", asked)
    assert (await gateway.http.delete(f"/v1/jobs/{left}")).status_code == 204
    record = admission.admit(resolved, gateway.launcher.capabilities, "default", gateway.clock())
    with pytest.raises(BlobMissing, match=f"job:{left}/made has been removed"):
        await gateway.repository.create(moves.queued(record), b"{}", None, needs)
    assert await gateway.repository.current(record.id) is None
    assert await gateway.repository.blobs("default", [sha(b"an array")]) == {}


async def test_a_job_that_is_deleted_by_hand_leaves_nothing(gateway, definition):
    job = await finished(gateway, definition, [(f"made-{n}", bytes([n])) for n in range(30)])
    assert len(await keys(gateway)) > 30
    assert (await gateway.http.delete(f"/v1/jobs/{job}")).status_code == 204
    assert await keys(gateway) == []


async def test_the_gateway_sweeps_by_itself_when_something_is_due(deploy, definition):
    gateway = deploy(policy={"keep": 0.01})
    sweeping = asyncio.create_task(gateway.service.retention.run(pause=0.01))
    job = await gateway.submit(definition)
    await (await gateway.head(job)).commit()
    await gateway.ended(job)
    gateway.clock.pass_by(1)

    async def gone():
        return (await gateway.http.get(f"/v1/jobs/{job}")).status_code == 404

    await doubles.until(gone)
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)


async def test_where_nothing_happens_nothing_is_asked_of_the_store(deploy, definition):
    gateway = deploy()
    await finished(gateway, definition)
    asked = []

    class Told:
        def __getattr__(self, name):
            asked.append(name)
            return getattr(gateway.store, name)

    service, policy = gateway.service, Policy(10**9, keep=100, interval=0.02)
    retention = Retention(gateway.repository, Told(), service.staging, service.cache, policy, gateway.clock)
    sweeping = asyncio.create_task(retention.run(pause=0.01))
    await doubles.until(lambda: asked)
    await asyncio.sleep(0.2)
    assert asked == ["list", "uploads"], "once, because a job had moved"
    await gateway.submit(definition)
    await doubles.until(lambda: len(asked) > 2)
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)


def test_jobs_of_older_gateways_keep_what_they_refer_to(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(migrations.__path__[0]))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        for data in (b"mine", b"nobody's"):
            row = {"t": "default", "s": sha(data), "k": f"tenants/default/blobs/{len(data)}"}
            connection.execute(text("INSERT INTO blobs VALUES (:t, :s, 4, 'a/b', :k, 1)"), row)
        definition = b'{"inputs": {"X": {"blob": "%s"}, "y": {"blob": "%s"}}}' % (
            sha(b"mine").encode(),
            sha(b"not there").encode(),
        )
        job = {"d": definition, "r": JOB.dump_json(record(State.RUNNING)).decode()}
        values = "('job-1', 'default', 'running', 1, '2026-01-01T00:00:00.000000Z', :r, :d)"
        named = "(id, tenant, state, active, created, record, definition)"
        connection.execute(text(f"INSERT INTO jobs {named} VALUES {values}"), job)
        command.upgrade(config, "0003")
        kept = [tuple(row) for row in connection.execute(text("SELECT job, sha256, tenant FROM job_blobs"))]
        assert kept == [("job-1", sha(b"mine"), "default")]
        used = connection.execute(text("SELECT min(used) FROM blobs")).scalar()
        assert used > "2026", "a day passes before what nobody refers to goes"
    engine.dispose()


def test_a_policy_of_a_tenant_goes_before_the_gateways():
    policy = Policy(1, keep=10, keep_by_tenant={"a": 1, "b": "forever"})
    assert [policy.kept(tenant, None) for tenant in "abc"] == [1, None, 10]
    assert [policy.kept("a", wish) for wish in (5, "forever")] == [5, None]
