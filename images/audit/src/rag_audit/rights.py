"""Who may read and write which topic: the brokers' ACLs as declared, and none beside them."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its stubs re-export nothing
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

_SECONDS = 30.0
_DECLARED = re.compile(r"([a-z][a-z0-9-]*):(read|write|group):([A-Za-z0-9._-]{1,249})")
_OPERATIONS = {"read": AclOperation.READ, "write": AclOperation.WRITE, "group": AclOperation.READ}


@dataclass(frozen=True, slots=True)
class Right:
    """What a user may do with a topic, or that it may be a member of a consumer group."""

    user: str
    what: str
    name: str

    def binding(self) -> AclBinding:
        """The ACL."""
        kind = ResourceType.GROUP if self.what == "group" else ResourceType.TOPIC
        return AclBinding(
            kind,
            self.name,
            ResourcePatternType.LITERAL,
            f"User:{self.user}",
            "*",
            _OPERATIONS[self.what],
            AclPermissionType.ALLOW,
        )


def right(text: str) -> Right:
    """`USER:read|write:TOPIC` or `USER:group:GROUP`; raises `ArgumentTypeError`."""
    if not (found := _DECLARED.fullmatch(text)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected USER:read|write|group:NAME")
    return Right(found[1], found[2], found[3])


def grant(admin: AdminClient, rights: Sequence[Right]) -> None:
    """Make the ACLs those of `rights`; raises `KafkaException`."""
    wanted = [one.binding() for one in rights]
    there = admin.describe_acls(_every(), request_timeout=_SECONDS).result(_SECONDS)
    for made in admin.create_acls(wanted, request_timeout=_SECONDS).values():
        made.result(_SECONDS)
    stale = [_only(found) for found in there if found not in wanted]
    if stale:
        for gone in admin.delete_acls(stale, request_timeout=_SECONDS).values():
            gone.result(_SECONDS)


def _every() -> AclBindingFilter:
    return AclBindingFilter(
        ResourceType.ANY,
        None,  # type: ignore[arg-type]  # its stubs do not know that None is any
        ResourcePatternType.ANY,
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        AclOperation.ANY,
        AclPermissionType.ANY,
    )


def _only(found: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        found.restype,
        found.name,
        found.resource_pattern_type,
        found.principal,
        found.host,
        found.operation,
        found.permission_type,
    )
