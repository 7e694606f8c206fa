"""Blobs in parts over HTTP: sent in any order, gone on with, by several at once; and blobs that are damaged."""

import asyncio
import hashlib
from datetime import timedelta

import pytest

from flaregate_wire.blobs import BlobOffer
from flaregate_wire.limits import PART_BYTES
from gateway.stores.base import UploadMissing

PIECES = [bytes([number]) * PART_BYTES for number in range(2)] + [b"the end"]
DATA = b"".join(PIECES)


def sum_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


SUM = sum_of(DATA)
PARTS = [{"size": len(piece), "sha256": sum_of(piece)} for piece in PIECES]
OFFER = {"sha256": SUM, "size": len(DATA), "media_type": "application/x-npy", "parts": PARTS}
SMALL = b"small"
SMALL_OFFER = {"sha256": sum_of(SMALL), "size": len(SMALL), "media_type": "application/x-npy"}


async def offer(gateway, body=None):
    answer = await gateway.http.post("/v1/blobs", json=body or OFFER)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


async def put(gateway, sending, data=None):
    data = PIECES[sending["part"]] if data is None else data
    return await gateway.anonymous.put(sending["url"], content=data, headers=sending["headers"])


async def complete(gateway, sha256=SUM):
    return await gateway.http.post(f"/v1/blobs/{sha256}:complete")


async def read(gateway, sha256=SUM, tenant="default"):
    blob = (await gateway.repository.blobs(tenant, [sha256]))[sha256]
    return b"".join([piece async for piece in gateway.store.get(blob.key)])


async def stage(gateway, body, data):
    (sending,) = (await offer(gateway, body))["upload"]
    assert (await put(gateway, sending, data)).status_code == 204
    assert (await complete(gateway, body["sha256"])).status_code == 204


async def test_only_the_missing_parts_are_asked_for(still):
    asked = await offer(still)
    assert [sending["part"] for sending in asked["upload"]] == [0, 1, 2]
    assert asked["missing"] == len(DATA)
    assert (await put(still, asked["upload"][2])).status_code == 204
    early = await complete(still)
    assert (early.status_code, early.json()["code"]) == (422, "blob_mismatch")
    again = await offer(still)
    assert [sending["part"] for sending in again["upload"]] == [0, 1]
    assert again["missing"] == 2 * PART_BYTES
    wrong = await put(still, again["upload"][0], PIECES[1])
    assert (wrong.status_code, wrong.json()["code"]) == (422, "blob_mismatch")
    for sending in again["upload"]:
        assert (await put(still, sending)).status_code == 204
    rest = await offer(still)
    assert (rest["exists"], rest["upload"], rest["missing"]) == (False, [], 0)
    for _ in range(2):
        assert (await complete(still)).status_code == 204
    assert (await offer(still))["exists"] is True
    assert await read(still) == DATA


async def test_a_forgotten_upload_is_begun_anew(still):
    asked = await offer(still)
    await put(still, asked["upload"][0])
    blob = (await still.repository.blobs("default", [SUM]))[SUM]
    await still.store.abandon(blob.key, blob.upload)
    late = await put(still, asked["upload"][1])
    assert late.status_code == 404, "the client asks anew"
    again = await offer(still)
    assert [sending["part"] for sending in again["upload"]] == [0, 1, 2]
    for sending in again["upload"]:
        assert (await put(still, sending)).status_code == 204
    assert (await complete(still)).status_code == 204


async def test_a_gateway_that_died_after_the_last_step_at_the_store_goes_on(still):
    for sending in (await offer(still))["upload"]:
        await put(still, sending)
    blob = (await still.repository.blobs("default", [SUM]))[SUM]
    await still.store.finish(blob.key, blob.upload, BlobOffer(**OFFER).parts)
    again = await offer(still)
    assert (again["exists"], again["upload"], again["missing"]) == (False, [], 0)
    assert (await complete(still)).status_code == 204


async def test_clients_that_send_the_same_at_once_all_end_well(still):
    async def client():
        while not (asked := await offer(still))["exists"]:
            for sending in asked["upload"]:
                assert (await put(still, sending)).status_code in (204, 404)
            assert (await complete(still)).status_code in (204, 422)

    await asyncio.gather(*(client() for _ in range(4)))
    assert await read(still) == DATA
    assert list((still.store._uploads).iterdir()) == [], "nothing is left of the uploads"


async def test_an_offer_with_other_parts_takes_the_place_of_the_one_before(still):
    first = await offer(still)
    await put(still, first["upload"][0])
    pieces = [DATA[: 2 * PART_BYTES], DATA[2 * PART_BYTES :]]
    parts = [{"size": len(piece), "sha256": sum_of(piece)} for piece in pieces]
    other = await offer(still, OFFER | {"parts": parts})
    assert [sending["part"] for sending in other["upload"]] == [0, 1]
    assert (await put(still, first["upload"][1])).status_code == 404
    for sending, piece in zip(other["upload"], pieces, strict=True):
        assert (await put(still, sending, piece)).status_code == 204
    assert (await complete(still)).status_code == 204
    assert await read(still) == DATA


async def test_the_whole_may_come_by_another_way_than_the_parts(still):
    await offer(still)
    whole = await offer(still, {name: OFFER[name] for name in ("sha256", "size", "media_type")})
    (sending,) = whole["upload"]
    assert "part" not in sending
    assert (await put(still, sending, DATA)).status_code == 204
    assert (await complete(still)).status_code == 204
    assert list((still.store._uploads).iterdir()) == []


async def test_many_parts_are_asked_for_in_turns(still):
    parts = [PARTS[0]] * 40
    asked = await offer(still, OFFER | {"size": 40 * PART_BYTES, "parts": parts})
    assert len(asked["upload"]) == 32
    assert asked["missing"] == 40 * PART_BYTES


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (PARTS[:2], "add up to"),
        ([PARTS[2], *PARTS[:2]], "one size"),
        ([{"size": 1, "sha256": SUM}] * len(DATA[:100]), "add up to"),
    ],
)
async def test_parts_are_checked(still, parts, said):
    answer = await still.http.post("/v1/blobs", json=OFFER | {"parts": parts})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert said in answer.json()["detail"]


async def test_what_one_put_cannot_take_must_come_in_parts(still):
    answer = await still.http.post("/v1/blobs", json=SMALL_OFFER | {"size": 5 * 1024**3 + 1})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert "put_bytes" in answer.json()["detail"]


async def test_an_upload_in_parts_is_its_tenants_own(still):
    for sending in (await offer(still))["upload"]:
        await put(still, sending)
    other = await still.service.staging.offer("other", BlobOffer(**OFFER))
    assert (other.exists, other.missing) == (False, len(DATA))
    assert all("/tenants/other/" in sending.url for sending in other.upload)
    with pytest.raises(Exception, match="missing"):
        await still.service.staging.complete("other", SUM)


async def test_idle_uploads_are_swept(still):
    asked = await offer(still)
    await put(still, asked["upload"][0])
    blob = (await still.repository.blobs("default", [SUM]))[SUM]
    assert await still.service.staging.sweep(still.clock()) == 0
    assert await still.service.staging.sweep(still.clock() + timedelta(seconds=1)) == 1
    with pytest.raises(UploadMissing):
        await still.store.arrived(blob.key, blob.upload, BlobOffer(**OFFER).parts)
    assert len((await offer(still))["upload"]) == 3


async def test_offers_and_submissions_say_when_a_blob_was_used(still, definition):
    async def used():
        return (await still.repository.blobs("default", [SMALL_OFFER["sha256"]]))[SMALL_OFFER["sha256"]].used

    await stage(still, SMALL_OFFER, SMALL)
    times = [await used()]
    still.clock.pass_by(10)
    await offer(still, SMALL_OFFER)
    times.append(await used())
    still.clock.pass_by(10)
    x = {"blob": SMALL_OFFER["sha256"], "media_type": "application/x-npy"}
    await still.submit(inputs={**definition["inputs"], "X": x})
    times.append(await used())
    assert times == sorted(set(times))
