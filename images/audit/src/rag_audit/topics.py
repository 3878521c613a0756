"""`rag-audit-topics NAME:PARTITIONS:DAYS ...`: topics and rights as declared, made or brought in step."""

import argparse
import re
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its stubs re-export nothing
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from rag_audit.deadletter import MAX_BYTES
from rag_audit.errors import AuditError
from rag_audit.rights import Right, grant, right
from rag_common.files import SecretFileError
from rag_common.kafka import connection

_SECONDS = 30.0
_DAY_MS = 86_400_000
_DECLARED = re.compile(r"([A-Za-z0-9._-]{1,249}):([1-9]\d*):([1-9]\d*)")


@dataclass(frozen=True, slots=True)
class Topic:
    """What a topic is to be."""

    name: str
    partitions: int
    days: int

    def settings(self, in_sync: int) -> dict[str, str]:
        """Its settings: acknowledged by `in_sync` replicas, never by an unclean leader."""
        return {
            "min.insync.replicas": str(in_sync),
            "retention.ms": str(self.days * _DAY_MS),
            "max.message.bytes": str(MAX_BYTES),
            "unclean.leader.election.enable": "false",
        }


def declared(text: str) -> Topic:
    """`NAME:PARTITIONS:DAYS`; raises `ArgumentTypeError`."""
    if not (found := _DECLARED.fullmatch(text)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME:PARTITIONS:DAYS")
    return Topic(found[1], int(found[2]), int(found[3]))


def ensure(
    admin: AdminClient,
    topics: Sequence[Topic],
    replicas: int,
    in_sync: int,
    rights: Sequence[Right] = (),
) -> None:
    """Make what is missing and adapt what is there; raises `AuditError`.

    Without any right the brokers are taken to have no ACLs.
    """
    try:
        if rights:
            grant(admin, rights)
        _create(admin, topics, replicas, in_sync)
        _configure(admin, topics, in_sync)
        _widen(admin, topics, replicas)
    except (KafkaException, TimeoutError) as error:
        raise AuditError(f"kafka: {error or 'no answer'}") from error


def _create(admin: AdminClient, topics: Sequence[Topic], replicas: int, in_sync: int) -> None:
    wanted = [NewTopic(t.name, t.partitions, replicas, config=t.settings(in_sync)) for t in topics]
    made = admin.create_topics(wanted, operation_timeout=_SECONDS, request_timeout=_SECONDS)
    for future in made.values():
        _done(future, KafkaError.TOPIC_ALREADY_EXISTS)


def _configure(admin: AdminClient, topics: Sequence[Topic], in_sync: int) -> None:
    resources = [
        ConfigResource(
            ResourceType.TOPIC,
            topic.name,
            incremental_configs=[
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                for name, value in topic.settings(in_sync).items()
            ],
        )
        for topic in topics
    ]
    for future in admin.incremental_alter_configs(resources, request_timeout=_SECONDS).values():
        _done(future)


def _widen(admin: AdminClient, topics: Sequence[Topic], replicas: int) -> None:
    found = admin.list_topics(timeout=_SECONDS).topics
    for topic in topics:
        partitions = found[topic.name].partitions
        has = min((len(p.replicas) for p in partitions.values()), default=0)
        if has != replicas:
            raise AuditError(
                f"topic {topic.name} has {has} replicas, not {replicas}: reassign its partitions"
            )
        if len(partitions) < topic.partitions:
            grown = admin.create_partitions([NewPartitions(topic.name, topic.partitions)])
            _done(grown[topic.name])


def _done(future: "Future[Any]", *harmless: int) -> None:
    try:
        future.result(_SECONDS)
    except KafkaException as error:
        if error.args[0].code() not in harmless:
            raise


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="rag-audit-topics", description=__doc__)
    parser.add_argument("--brokers", required=True, help="host:port[,host:port]")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--in-sync", type=int, default=2, help="replicas that must acknowledge")
    parser.add_argument("--credentials", type=Path, help="login that may do so, as JSON")
    parser.add_argument(
        "--allow", type=right, action="append", default=[], metavar="USER:read|write|group:NAME"
    )
    parser.add_argument("topics", nargs="+", type=declared, metavar="NAME:PARTITIONS:DAYS")
    return parser.parse_args()


def main() -> int:
    """Make the topics; 1 with the reason on standard error."""
    given = _arguments()
    try:
        admin = AdminClient(connection(given.brokers, given.credentials))
        ensure(admin, given.topics, given.replicas, given.in_sync, given.allow)
    except (AuditError, SecretFileError) as error:
        print(f"rag-audit-topics: {error}", file=sys.stderr)
        return 1
    return 0
