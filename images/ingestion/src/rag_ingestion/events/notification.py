"""Bucket notifications as S3 sends them (and those that follow it): which objects changed."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from rag_common.tenancy import InvalidTenantError, tenant_name

_ABOUT = ("ObjectCreated:", "ObjectRemoved:")


class PoisonError(Exception):
    """An event that no retry will ever make usable; the message is the reason."""


class Change(NamedTuple):
    """An object below a tenant's prefix that came, changed or went."""

    tenant: str
    source: str
    key: str


def changes(body: bytes, source: str) -> list[Change]:
    """The changes below `source` (`s3://bucket[/prefix]`) that a message tells of, each once.

    The first part of a key below it is the tenant. Other kinds of events have none. Raises
    `PoisonError` for what is no notification, or is about another bucket.
    """
    message = _json(body)
    if message.get("Event") == "s3:TestEvent":
        return []
    records = message.get("Records")
    if not isinstance(records, list) or not records:
        raise PoisonError("no Records: not a bucket notification")
    found = [change for record in records for change in _change(record, source.rstrip("/"))]
    return list(dict.fromkeys(found))


def _json(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except ValueError as error:
        raise PoisonError(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise PoisonError("not a JSON object")
    return message


def _change(record: Any, source: str) -> Iterator[Change]:
    try:
        name = str(record["eventName"]).removeprefix("s3:")
        bucket, key = record["s3"]["bucket"]["name"], record["s3"]["object"]["key"]
        path = f"s3://{bucket}/{unquote_plus(key, errors='strict')}"
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise PoisonError(f"a record without event name, bucket or key: {error!r}") from None
    if not name.startswith(_ABOUT):
        return
    if not path.startswith(f"{source}/"):
        raise PoisonError(f"{path} is not below {source}")
    tenant, _, rest = path.removeprefix(f"{source}/").partition("/")
    if not rest:
        raise PoisonError(f"{path}: no tenant's folder")
    try:
        yield Change(tenant_name(tenant), f"{source}/{tenant}", rest)
    except InvalidTenantError as error:
        raise PoisonError(f"{path}: {error}") from None
