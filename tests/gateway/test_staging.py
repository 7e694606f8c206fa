"""Blobs and presigned objects over HTTP."""

import hashlib

from tests.doubles import until

DATA = bytes(range(256)) * 10
SUM = "sha256:" + hashlib.sha256(DATA).hexdigest()
OFFER = {"sha256": SUM, "size": len(DATA), "media_type": "application/x-npy"}


async def put(still, transfer, data):
    return await still.anonymous.put(transfer["url"], content=data, headers=transfer["headers"])


async def test_only_what_is_missing_is_sent(still):
    offered = await still.http.post("/v1/blobs", json=OFFER)
    assert offered.status_code == 201
    (transfer,) = offered.json()["upload"]
    assert offered.json()["expires"]
    early = await still.http.post(f"/v1/blobs/{SUM}:complete")
    assert (early.status_code, early.json()["code"]) == (422, "blob_mismatch")
    again = (await still.http.post("/v1/blobs", json=OFFER)).json()["upload"][0]
    assert again["url"].partition("?")[0] == transfer["url"].partition("?")[0], "the same place"
    wrong = await put(still, transfer, DATA[::-1])
    assert (wrong.status_code, wrong.json()["code"]) == (422, "blob_mismatch")
    assert (await put(still, transfer, DATA[:-1])).status_code == 422
    assert (await put(still, transfer, DATA)).status_code == 204
    assert (await put(still, again, DATA)).status_code == 204, "repeated after a lost answer"
    for _ in range(2):
        assert (await still.http.post(f"/v1/blobs/{SUM}:complete")).status_code == 204
    there = await still.http.post("/v1/blobs", json=OFFER)
    assert (there.status_code, there.json()["exists"]) == (200, True)


async def test_a_staged_blob_reaches_the_head(gateway, definition):
    (transfer,) = (await gateway.http.post("/v1/blobs", json=OFFER)).json()["upload"]
    await put(gateway, transfer, DATA)
    x = {"X": {"blob": SUM, "media_type": "application/x-npy"}} | {"y": definition["inputs"]["y"]}
    refused = await gateway.http.post("/v1/jobs", json=definition | {"inputs": x})
    assert refused.json()["code"] == "blob_missing", "not before it is complete"
    await gateway.http.post(f"/v1/blobs/{SUM}:complete")
    job = await gateway.submit(inputs=x)
    head = await gateway.head(job)
    order = (await head.order()).json()
    found = await gateway.anonymous.get(order["blobs"][SUM]["url"])
    assert found.content == DATA


async def test_offers_are_checked(still):
    for change in ({"sha256": "md5:1"}, {"size": -1}, {"media_type": "x"}, {"more": 1}):
        assert (await still.http.post("/v1/blobs", json=OFFER | change)).json()["code"] == "invalid_request"
    large = await still.http.post("/v1/blobs", json=OFFER | {"size": 50 * 1024**3 + 1})
    assert (large.status_code, large.json()["code"]) == (413, "too_large")
    unknown = await still.http.post("/v1/blobs/sha256:" + "1" * 64 + ":complete")
    assert unknown.status_code == 404


async def test_knowing_a_sum_gives_another_tenant_nothing(still):
    from flaregate_wire.blobs import BlobOffer

    (transfer,) = (await still.http.post("/v1/blobs", json=OFFER)).json()["upload"]
    await put(still, transfer, DATA)
    await still.http.post(f"/v1/blobs/{SUM}:complete")
    other = await still.service.staging.offer("other", BlobOffer(**OFFER))
    assert other.exists is False
    assert "/tenants/other/" in other.upload[0].url


async def test_ranges_of_presigned_objects(gateway):
    job = await gateway.submit()
    head = await gateway.head(job)
    key = await head.write("artifacts/a", DATA)
    url = gateway.store.presign("GET", key).url
    whole = await gateway.anonymous.get(url)
    assert (whole.status_code, whole.content, whole.headers["accept-ranges"]) == (200, DATA, "bytes")
    assert "attachment" in whole.headers["content-disposition"]
    for header, part in (("bytes=0-9", DATA[:10]), ("bytes=100-", DATA[100:]), ("bytes=-5", DATA[-5:])):
        answer = await gateway.anonymous.get(url, headers={"Range": header})
        assert (answer.status_code, answer.content) == (206, part)
        assert answer.headers["content-range"].endswith(f"/{len(DATA)}")
    await until(lambda: gateway.launcher.orders)
    gateway.clock.pass_by(901)
    over = await gateway.anonymous.get(url)
    assert (over.status_code, over.json()["code"]) == (403, "url_expired")
