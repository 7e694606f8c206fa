"""Objects in a bucket of any service that speaks S3: the one package that imports boto3, and knows that it blocks."""

from gateway.stores.s3.bucket import Bucket, Connection, connect
from gateway.stores.s3.files import BucketFiles
from gateway.stores.s3.store import S3Store, Seal

__all__ = ["Bucket", "BucketFiles", "Connection", "S3Store", "Seal", "connect"]
