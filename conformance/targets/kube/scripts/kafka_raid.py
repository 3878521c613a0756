"""Asks a Kafka broker for what the order on stdin lists and prints the error code of each.

Speaks the protocol itself. Nothing is changed: each request is one that the broker authorizes first
and then cannot, or need not, carry out.
"""

import json
import socket
import struct
import sys
from pathlib import Path
from typing import Any

SECONDS = 10
LOGIN = Path("/vault/secrets/kafka.json")
NOWHERE = 9999  # no topic has so many partitions
CONNECTION = -2  # the broker hung up or did not answer


def text(value: str) -> bytes:
    """A string of the protocol."""
    raw = value.encode()
    return struct.pack("!h", len(raw)) + raw


def _octets(raw: bytes) -> bytes:
    return struct.pack("!i", len(raw)) + raw


def _one(body: bytes) -> bytes:
    """An array of one."""
    return struct.pack("!i", 1) + body


class Broker:
    """One connection."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), SECONDS)
        self._file = self._socket.makefile("rb")

    def ask(self, key: int, version: int, body: bytes) -> "Reader":
        """The answer to a request; raises `OSError`."""
        head = struct.pack("!hhi", key, version, 1) + text("rag-conformance")
        self._socket.sendall(_octets(head + body))
        size = self._file.read(4)
        if len(size) < 4:
            raise ConnectionError("the broker hung up")
        return Reader(self._file.read(struct.unpack("!i", size)[0])[4:])

    def login(self, user: str, password: str) -> int:
        """The error code of SASL PLAIN with a login."""
        if code := self.ask(17, 1, text("PLAIN")).int16():
            return code
        return self.ask(36, 0, _octets(f"\0{user}\0{password}".encode())).int16()

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()


class Reader:
    """Fields of an answer, one after the other."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def _take(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self.raw, self.at)
        self.at += struct.calcsize(form)
        return int(value)

    def int16(self) -> int:
        """A short number."""
        return self._take("!h")

    def int32(self) -> int:
        """A number."""
        return self._take("!i")

    def int64(self) -> int:
        """A long number."""
        return self._take("!q")

    def string(self) -> str:
        """A string, '' for none."""
        size = self.int16()
        if size < 0:
            return ""
        self.at += size
        return self.raw[self.at - size : self.at].decode()


def produce(broker: Broker, topic: str) -> int:
    """Write a record: a broken one, which is refused after the right to write is looked at."""
    batch = struct.pack(
        "!qiibIhiqqqhii", 0, 49, 0, 2, 0, 0, 0, 0, 0, -1, -1, -1, 0
    )  # of no right sum
    part = struct.pack("!i", 0) + _octets(batch)
    body = struct.pack("!hhi", -1, 1, 5000) + _one(text(topic) + _one(part))
    told = broker.ask(0, 3, body)
    told.int32(), told.string(), told.int32(), told.int32()
    return told.int16()


def fetch(broker: Broker, topic: str) -> int:
    """Read records."""
    part = struct.pack("!iqi", 0, 0, 1)
    body = struct.pack("!iiiib", -1, 0, 0, 1, 0) + _one(text(topic) + _one(part))
    told = broker.ask(1, 4, body)
    told.int32()
    if told.int32() == 0:
        return told.raw[0]
    told.string(), told.int32(), told.int32()
    return told.int16()


def delete_records(broker: Broker, topic: str) -> int:
    """Delete the records before the first."""
    body = _one(text(topic) + _one(struct.pack("!iq", 0, 0))) + struct.pack("!i", 5000)
    told = broker.ask(21, 0, body)
    told.int32(), told.int32(), told.string(), told.int32(), told.int32(), told.int64()
    return told.int16()


def alter(broker: Broker, topic: str) -> int:
    """Keep records for a minute; validated only."""
    change = text("retention.ms") + struct.pack("!b", 0) + text("60000")
    told = broker.ask(44, 0, _one(struct.pack("!b", 2) + text(topic) + _one(change)) + b"\1")
    told.int32(), told.int32()
    return told.int16()


def create(broker: Broker, topic: str) -> int:
    """Make a topic; validated only."""
    body = text(topic) + struct.pack("!ihii", 1, 1, 0, 0)
    told = broker.ask(19, 2, _one(body) + struct.pack("!ib", 5000, 1))
    told.int32(), told.int32(), told.string()
    return told.int16()


def commit(broker: Broker, group_and_topic: str) -> int:
    """Move another's place in a topic: in a partition that is not there."""
    group, _, topic = group_and_topic.partition(" ")
    place = struct.pack("!iq", NOWHERE, 0) + struct.pack("!h", -1)
    body = text(group) + struct.pack("!i", -1) + text("") + struct.pack("!q", -1)
    told = broker.ask(8, 2, body + _one(text(topic) + _one(place)))
    told.int32(), told.string(), told.int32(), told.int32()
    return told.int16()


WAYS = {
    "write": produce,
    "read": fetch,
    "delete records of": delete_records,
    "change settings of": alter,
    "make": create,
    "move the place of": commit,
}


def raid(order: dict[str, Any], login: Path = LOGIN) -> dict[str, int]:
    """The error code of each attempt, by `way what`; each has a connection of its own."""
    found = {}
    who = json.loads(login.read_text(encoding="utf-8")) if login.exists() else None
    for way, what in order["attempts"]:
        try:
            broker = Broker(order["host"], order["port"])
            refused = broker.login(who["username"], who["password"]) if who else 0
            found[f"{way} {what}"] = refused or WAYS[way](broker, what)
            broker.close()
        except (OSError, struct.error):
            found[f"{way} {what}"] = CONNECTION
    return found


if __name__ == "__main__":
    print(json.dumps(raid(json.loads(sys.stdin.readline()))))
