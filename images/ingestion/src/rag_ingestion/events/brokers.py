"""Kafka or RabbitMQ behind one face: messages are acknowledged when their handler has returned."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from faststream import AckPolicy
from faststream.confluent import KafkaBroker
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue
from faststream.security import SASLPlaintext

from rag_common.files import read_credentials
from rag_ingestion.events.settings import EventSettings

Broker = KafkaBroker | RabbitBroker
Handle = Callable[[bytes], Awaitable[None]]
_POLL_MS = 1_200_000  # longer than one document with all its retries takes
_CLOSE_SECONDS = 150.0  # what a conversion may take


def _raw(message: Any) -> bytes:
    return bytes(message.body)


def open_broker(settings: EventSettings) -> Broker:
    """A broker that is not connected yet; raises `SecretFileError`."""
    shared: dict[str, Any] = {
        "apply_types": False,
        "decoder": _raw,
        "graceful_timeout": _CLOSE_SECONDS,
        "logger": None,
    }
    parts = urlsplit(settings.events_url)
    file = settings.events_credentials_file
    if file:
        login = read_credentials(file)
        shared["security"] = SASLPlaintext(
            login.username, login.password, use_ssl=parts.scheme == "amqps"
        )
    if parts.scheme == "kafka":
        return KafkaBroker(parts.netloc, acks="all", enable_idempotence=True, **shared)
    # What no queue takes is an error, not lost.
    unroutable = Channel(on_return_raises=True)
    return RabbitBroker(settings.events_url, default_channel=unroutable, **shared)


def consume(broker: Broker, settings: EventSettings, handle: Handle) -> None:
    """Have `handle` called for each message, one after the other."""
    topic = settings.events_topic
    if isinstance(broker, KafkaBroker):
        broker.subscriber(
            topic,
            group_id=settings.events_group,
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.NACK_ON_ERROR,
            max_poll_interval_ms=_POLL_MS,
            session_timeout_ms=12_000,
        )(handle)
    else:
        broker.subscriber(
            RabbitQueue(topic, durable=True),
            channel=Channel(prefetch_count=1),
            ack_policy=AckPolicy.NACK_ON_ERROR,
        )(handle)


async def connect(broker: Broker, settings: EventSettings) -> None:
    """Start to consume, with a place for what is put aside. (Kafka's topics are declared elsewhere.)"""
    await broker.start()
    if isinstance(broker, RabbitBroker):
        await broker.declare_queue(RabbitQueue(settings.events_dead_letter, durable=True))


async def put_aside(broker: Broker, settings: EventSettings, body: bytes, reason: str) -> None:
    """Make the message durable in the dead-letter topic or queue, with its reason."""
    headers: dict[str, Any] = {"reason": reason[:1000], "source": settings.events_topic}
    name = settings.events_dead_letter
    if isinstance(broker, KafkaBroker):
        await broker.publish(body, topic=name, headers=headers)
    else:
        await broker.publish(
            body, queue=RabbitQueue(name, durable=True), headers=headers, persist=True
        )
