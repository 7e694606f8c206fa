"""Data where it lies: files of a bucket or of a web server that a definition refers to, and what is known of them."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, JsonValue, model_validator

from flaregate_wire.blobs import Transfer
from flaregate_wire.model import PeerModel, UserModel

Format = Literal["parquet", "csv", "arrow", "npy"]
_SUFFIXES: dict[str, Format] = {
    "parquet": "parquet",
    "pq": "parquet",
    "csv": "csv",
    "arrow": "arrow",
    "feather": "arrow",
    "npy": "npy",
}
_KNOWN = "parquet, csv, arrow or npy"


def _address(given: str) -> str:
    """Raise ValueError, with what to do, for what is no address of a file or folder."""
    scheme, found, rest = given.partition("://")
    if scheme == "s3" and found:
        bucket, slash, key = rest.partition("/")
        wrong = "" if bucket and slash else "write s3://bucket/key, or s3://bucket/folder/ for all files in it"
        if {".", ".."} & set(key.split("/")):  # some services would leave the folder that the operator allows
            wrong = "a key has no parts '.' and '..'"
    elif scheme == "https" and found:
        wrong = _web_fault(given)
    elif scheme == "http":
        wrong = "http:// shows the data to everyone on its way and may be changed there; give an https:// address"
    else:
        wrong = "write s3://bucket/key, s3://bucket/folder/ or https://host/file"
    if wrong or not given.isprintable() or " " in given:
        raise ValueError(f"{given!r}: {wrong or 'write spaces and control characters as %20 and the like'}")
    return given


def _web_fault(given: str) -> str:
    try:
        parts = urlsplit(given)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"this is no address: {error}"
    if not host:
        return "the host is missing; write https://host/file"
    if parts.username is not None or parts.password is not None:
        return "names and passwords in an address would be kept in the job; give a signed or a public address"
    if parts.path in ("", "/") or parts.path.endswith("/"):
        return "a web server does not list its folders; give the address of one file"
    return ""


Address = Annotated[str, Field(max_length=2048), AfterValidator(_address)]


class Reference(UserModel):
    """Files to read where they lie, as one input; the gateway looks at them before the job begins."""

    reference: Address = Field(description="`s3://bucket/key`, `s3://bucket/folder/` or `https://host/file`.")
    format: str | None = Field(default=None, description=f"{_KNOWN}; by the file's suffix without it.")
    columns: tuple[str, ...] | None = Field(default=None, description="These columns alone, as a frame.")
    column: str | None = Field(default=None, description="This column alone, one value a row.")

    @model_validator(mode="after")
    def _readable(self) -> Self:
        wrong = self._format_fault() or self._columns_fault()
        if wrong:
            raise ValueError(f"{self.reference!r}: {wrong}")
        return self

    def _format_fault(self) -> str:
        if self.format is not None and self.format not in _SUFFIXES.values():
            return f"there is no format {self.format!r}; give format as {_KNOWN}"
        if self.format is None and self._by_suffix() is None:
            what = "a folder" if self.folder else "its suffix"
            return f"{what} does not say how the data is written; give format as {_KNOWN}"
        return ""

    def _columns_fault(self) -> str:
        if self.columns is not None and self.column is not None:
            return "'columns' gives a frame and 'column' one column; give one of them"
        if self.columns is not None and (not self.columns or len(set(self.columns)) < len(self.columns)):
            return "'columns' names each column that is wanted once"
        if self.kind == "npy" and (self.columns is not None or self.column is not None):
            return "an array has no names of columns; leave 'columns' and 'column' out"
        return ""

    def _by_suffix(self) -> Format | None:
        path = urlsplit(self.reference).path if self.reference.startswith("https:") else self.reference
        return _SUFFIXES.get(path.rpartition("/")[2].rpartition(".")[2].lower())

    @property
    def folder(self) -> bool:
        """Whether it stands for all files of a folder, in the order of their names."""
        return self.reference.endswith("/")

    @property
    def kind(self) -> Format:
        """How its files are written."""
        found = self.format or self._by_suffix()
        return next(known for known in _SUFFIXES.values() if known == found)  # the validator has seen to it


class RemoteFile(PeerModel):
    """One file of a reference, as it was when the job began. Every attempt reads the same bytes."""

    address: str
    size: int | None = Field(default=None, ge=0, description="Bytes; None where the server does not say.")
    version: str | None = None
    etag: str | None = None

    @property
    def identity(self) -> JsonValue:
        """What tells its bytes from others without reading them; None where nothing does."""
        if self.version is not None:
            return [self.address, "version", self.version]
        if self.etag is not None and not self.etag.startswith("W/"):  # of a weak one the bytes may differ
            return [self.address, "etag", self.etag, self.size]
        return None


class RemoteRead(PeerModel):
    """One file of a reference, and the request that reads it."""

    file: RemoteFile
    get: Transfer
    open_to: tuple[str, ...] | None = Field(
        default=None,
        description="None: a request of the gateway's own store. Else the address is a user's, and only public hosts "
        "and these (host:port) may be asked.",
    )
