"""A prefix of an S3 bucket as a source."""

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from rag_common.files import Credentials, SecretFileError, read_credentials
from rag_ingestion.errors import DocumentError, Reason, SourceError
from rag_ingestion.settings import Settings
from rag_ingestion.sources import SourceObject, hidden

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_CONFIG = Config(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "max_attempts": 5},
    s3={"addressing_style": "path"},
)
_OF_THE_DOCUMENT = {"NoSuchKey", "404", "AccessDenied", "403", "InvalidObjectState"}

_GONE = {"NoSuchKey", "404"}


def _is_document(key: str) -> bool:
    return bool(key) and not key.endswith("/") and not hidden(key)


@lru_cache(maxsize=1)
def _client(endpoint: str | None, credentials: Credentials | None) -> "S3Client":
    keys: dict[str, Any] = {}
    if credentials:
        keys = {
            "aws_access_key_id": credentials.username,
            "aws_secret_access_key": credentials.password,
        }
    session = boto3.Session(**keys)
    region = session.region_name or "us-east-1"
    return session.client("s3", endpoint_url=endpoint, config=_CONFIG, region_name=region)


class S3Source:
    """Objects below `prefix`; without a credentials file the SDK's own chain (workload identity)."""

    def __init__(self, bucket: str, prefix: str, settings: Settings) -> None:
        self.bucket, self.settings = bucket, settings
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    @classmethod
    def from_url(cls, url: str, settings: Settings) -> "S3Source":
        """The source at `s3://bucket/prefix`; raises `SourceError` without a bucket."""
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not bucket:
            raise SourceError(f"source {url!r}: no bucket; give s3://bucket/prefix")
        return cls(bucket, prefix, settings)

    @property
    def client(self) -> "S3Client":
        """A client with the credentials that the file holds now."""
        file = self.settings.s3_credentials_file
        try:
            credentials = read_credentials(file) if file else None
        except SecretFileError as error:
            raise SourceError(f"S3_CREDENTIALS_FILE: {error}") from error
        return _client(self.settings.s3_endpoint_url, credentials)

    def list(self) -> Iterator[SourceObject]:
        """Objects by key; raises `SourceError` when the bucket cannot be listed to its end."""
        return iter(sorted(self._objects(), key=lambda item: item.key))

    def find(self, key: str) -> SourceObject | None:
        """The object of that key; raises `SourceError` when the server does not say."""
        if not _is_document(key):
            return None
        name = self.prefix + key
        try:
            head = self.client.head_object(Bucket=self.bucket, Key=name)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code", "") in _GONE:
                return None
            raise self._down(error) from error
        except BotoCoreError as error:
            raise self._down(error) from error
        size, etag = head["ContentLength"], head["ETag"].strip('"')
        return SourceObject(key, f"s3://{self.bucket}/{name}", size, head["LastModified"], etag)

    def read(self, item: SourceObject, limit: int) -> bytes:
        """At most `limit` + 1 bytes of the object."""
        try:
            body = self.client.get_object(Bucket=self.bucket, Key=self.prefix + item.key)["Body"]
            with body:
                return body.read(limit + 1)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in _OF_THE_DOCUMENT:
                raise DocumentError(Reason.UNREADABLE, str(error)) from error
            raise self._down(error) from error
        except (BotoCoreError, OSError) as error:
            raise self._down(error) from error

    def _objects(self) -> Iterator[SourceObject]:
        pages = self.client.get_paginator("list_objects_v2")
        try:
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix):
                for entry in page.get("Contents", ()):
                    key = entry["Key"].removeprefix(self.prefix)
                    if not _is_document(key):
                        continue
                    yield SourceObject(
                        key,
                        f"s3://{self.bucket}/{entry['Key']}",
                        entry["Size"],
                        entry["LastModified"],
                        entry["ETag"].strip('"'),
                    )
        except (BotoCoreError, ClientError) as error:
            raise self._down(error) from error

    def _down(self, error: Exception) -> SourceError:
        return SourceError(f"source s3://{self.bucket}/{self.prefix}: {error}")
