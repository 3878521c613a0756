"""How many events wait, as the broker tells: what the consumers are scaled on."""

import asyncio
import logging
from collections.abc import Iterator
from urllib.parse import urlsplit

from confluent_kafka import Consumer, KafkaException, TopicPartition
from faststream.rabbit import RabbitBroker, RabbitQueue
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from rag_common.kafka import connection
from rag_ingestion.events.brokers import Broker
from rag_ingestion.events.settings import EventSettings

log = logging.getLogger(__name__)
_SECONDS = 10.0


class LagCollector(Collector):
    """The events that wait; no sample while that is not known, which must not look like none."""

    value: int | None = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One sample, or the family alone."""
        family = GaugeMetricFamily("ingest_events_lag", "Events that are not acknowledged.")
        if self.value is not None:
            family.add_metric([], self.value)
        yield family


async def watch(broker: Broker, settings: EventSettings, into: LagCollector) -> None:
    """Measure until cancelled."""
    while True:
        try:
            into.value = await _measure(broker, settings)
        except Exception as error:  # whatever it is: the consumer goes on, and the value is unknown
            into.value = None
            log.warning("how many events wait is not known", extra={"reason": str(error)})
        await asyncio.sleep(_SECONDS)


async def _measure(broker: Broker, settings: EventSettings) -> int:
    if isinstance(broker, RabbitBroker):
        queue = await broker.declare_queue(RabbitQueue(settings.events_topic, durable=True))
        return (await queue.declare()).message_count or 0  # asked anew each time
    return await asyncio.to_thread(_kafka, settings)


def _kafka(settings: EventSettings) -> int:
    """What lies behind the group's commits; a look from outside, which joins no group."""
    brokers, topic = urlsplit(settings.events_url).netloc, settings.events_topic
    own = {"group.id": settings.events_group, "enable.auto.commit": False, "logger": log}
    consumer = Consumer({**connection(brokers, settings.events_credentials_file), **own})
    try:
        found = consumer.list_topics(topic, timeout=_SECONDS).topics[topic]
        if found.error:
            raise KafkaException(found.error)
        places = [TopicPartition(topic, number) for number in found.partitions]
        left = 0
        for place in consumer.committed(places, timeout=_SECONDS):
            low, high = consumer.get_watermark_offsets(place, timeout=_SECONDS)
            left += high - max(place.offset, low)
        return left
    finally:
        consumer.close()
