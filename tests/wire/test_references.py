"""What a definition may refer to, and what is said of what it may not."""

import pytest
from pydantic import TypeAdapter, ValidationError

from flaregate_wire.definitions import Input
from flaregate_wire.references import Reference, RemoteFile

INPUT = TypeAdapter(Input)


@pytest.mark.parametrize(
    ("given", "kind", "folder"),
    [
        ({"reference": "s3://bucket/key.parquet"}, "parquet", False),
        ({"reference": "s3://bucket/deep/er/KEY.CSV"}, "csv", False),
        ({"reference": "s3://bucket/key", "format": "npy"}, "npy", False),
        ({"reference": "s3://bucket/folder/", "format": "arrow"}, "arrow", True),
        ({"reference": "s3://bucket/", "format": "csv"}, "csv", True),
        ({"reference": "s3://bucket/a?b#c.feather"}, "arrow", False),
        ({"reference": "https://host/a/file.pq?signature=x.y"}, "parquet", False),
        ({"reference": "https://host:8443/file.csv", "column": "label"}, "csv", False),
        ({"reference": "s3://bucket/key.txt", "format": "csv", "columns": ["a", "b"]}, "csv", False),
    ],
)
def test_what_can_be_read(given, kind, folder):
    reference = INPUT.validate_python(given)
    assert isinstance(reference, Reference)
    assert (reference.kind, reference.folder) == (kind, folder)
    assert INPUT.validate_json(reference.model_dump_json(exclude_none=True)) == reference


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"reference": "http://host/x.csv"}, "https://"),
        ({"reference": "gs://bucket/x.csv"}, "s3://bucket/key"),
        ({"reference": "x.csv"}, "s3://bucket/key"),
        ({"reference": "s3://bucket"}, "s3://bucket/key, or s3://bucket/folder/"),
        ({"reference": "s3:///x.csv"}, "s3://bucket/key"),
        ({"reference": "https://host/folder/", "format": "csv"}, "does not list its folders"),
        ({"reference": "https://host", "format": "csv"}, "does not list its folders"),
        ({"reference": "https://me:word@host/x.csv"}, "names and passwords"),
        ({"reference": "https://host:port/x.csv"}, "no address"),
        ({"reference": "https:///x.csv"}, "host is missing"),
        ({"reference": "https://host/a b.csv"}, "%20"),
        ({"reference": "s3://bucket/key"}, "its suffix does not say"),
        ({"reference": "s3://bucket/key.xlsx"}, "parquet, csv, arrow or npy"),
        ({"reference": "s3://bucket/folder/"}, "a folder does not say"),
        ({"reference": "s3://bucket/x.csv", "format": "excel"}, "there is no format 'excel'"),
        ({"reference": "s3://bucket/x.csv", "columns": ["a"], "column": "b"}, "give one of them"),
        ({"reference": "s3://bucket/x.csv", "columns": []}, "each column that is wanted once"),
        ({"reference": "s3://bucket/x.csv", "columns": ["a", "a"]}, "each column that is wanted once"),
        ({"reference": "s3://bucket/x.npy", "column": "a"}, "no names of columns"),
        ({"reference": "s3://bucket/x.csv", "sheet": 1}, "sheet"),
        ({"references": "s3://bucket/x.csv"}, "an input is"),
    ],
)
def test_what_cannot_be_read_is_told_with_what_to_do(given, words):
    with pytest.raises(ValidationError, match=words):
        INPUT.validate_python(given)


def test_what_tells_bytes_apart():
    def identity(**known):
        return RemoteFile(address="s3://b/k", size=3, **known).identity

    assert identity(version="v1", etag='"e"') != identity(version="v2", etag='"e"')
    assert identity(etag='"e"') != identity(etag='"f"')
    assert identity(etag='"e"') == ["s3://b/k", "etag", '"e"', 3]
    assert identity(etag='W/"e"') is None
    assert identity() is None
