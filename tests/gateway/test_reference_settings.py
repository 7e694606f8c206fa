"""Where operators let jobs read files, and with whose key."""

import pytest
from pydantic import ValidationError

from gateway.main import _places
from gateway.settings import Settings

STORE = {
    "store": "s3",
    "s3_bucket": "lake",
    "s3_prefix": "flaregate",
    "s3_endpoint": "http://127.0.0.1:9000",
    "s3_region": "eu-north-1",
    "s3_access_key": "stores-key",
    "s3_secret_key": "s",
}


def settings(tmp_path, **given):
    return Settings(home=tmp_path, **given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"references": {"*": ["s3://bucket"]}}, "'s3://bucket' is no folder; write s3://bucket/"),
        ({"references": {"a": ["s3://b/"], "b": ["https://host/"]}}, "'https://host/' is no folder"),
        (STORE | {"references": {"*": ["s3://lake/"]}}, "what this gateway keeps of all tenants"),
        (STORE | {"references": {"*": ["s3://lake/flaregate/"]}}, "what this gateway keeps of all tenants"),
        (STORE | {"references": {"*": ["s3://lake/flaregate/tenants/"]}}, "what this gateway keeps of all tenants"),
        ({"references": {"*": ["s3://b/"]}, "references_access_key": "a"}, "set both"),
        ({"references_endpoint": "s3.example.com"}, "should match pattern"),
    ],
)
def test_what_cannot_be_meant(tmp_path, given, words):
    with pytest.raises(ValidationError, match=words):
        settings(tmp_path, **given)


def test_the_environment_sets_them(tmp_path, monkeypatch):
    monkeypatch.setenv("FLAREGATE_REFERENCES", '{"*": ["s3://open/"], "team": ["s3://lake/team/"]}')
    monkeypatch.setenv("FLAREGATE_REFERENCE_HOSTS", "inside.example:8443, other.example:443")
    found = settings(tmp_path)
    assert found.references == {"*": ("s3://open/",), "team": ("s3://lake/team/",)}
    assert found.reference_hosts == ("inside.example:8443", "other.example:443")


async def read_of(found, etag=None):
    from flaregate_wire.references import RemoteFile

    places = _places(found)
    try:
        return places.stores["s3"].read(RemoteFile(address="s3://open/a.csv", etag=etag)).get.url
    finally:
        for store in places.stores.values():
            await store.close()


async def test_the_key_and_the_service_are_the_stores_unless_others_are_set(tmp_path):
    open_to = {"references": {"*": ["s3://open/"]}}
    url = await read_of(settings(tmp_path, **STORE, **open_to))
    assert url.startswith("http://127.0.0.1:9000/open/a.csv?")
    assert "stores-key%2F" in url
    assert "%2Feu-north-1%2F" in url
    own = {"references_access_key": "readers-key", "references_secret_key": "s", "references_region": "us-west-2"}
    url = await read_of(settings(tmp_path, **STORE, **open_to, **own))
    assert url.startswith("http://127.0.0.1:9000/open/a.csv?")
    assert "readers-key%2F" in url
    assert "%2Fus-west-2%2F" in url
    url = await read_of(settings(tmp_path, **STORE, **open_to, **own, references_endpoint="https://elsewhere.example"))
    assert url.startswith("https://elsewhere.example/open/a.csv?")
    assert "stores-key" not in url


async def test_without_buckets_nothing_is_read_from_any(tmp_path):
    places = _places(settings(tmp_path))
    assert list(places.stores) == ["https"]
    assert places.stores["https"].fault("https://127.0.0.1/x.csv")
    await places.stores["https"].close()
