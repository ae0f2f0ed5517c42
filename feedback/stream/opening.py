"""Opens the stream that the settings name: Kafka where there are brokers, else Redis Streams."""

from burnish.feedback.settings import StreamSettings
from burnish.feedback.stream.event_stream import EventStream
from burnish.feedback.stream.sealing import SealingStream
from burnish.feedback.stream.user_keys import UserKeys


def open_stream(settings: StreamSettings) -> EventStream:
    """The stream that the settings name, in which what people did is sealed (sealing.py); it connects at its
    first use."""
    keys = UserKeys(settings.redis_url, replicas=settings.redis_replicas)
    return SealingStream(open_raw_stream(settings), keys)


def open_raw_stream(settings: StreamSettings) -> EventStream:
    """The same with records as they lie there, to copy them."""
    if settings.kafka_bootstrap:
        from burnish.feedback.stream.kafka_stream import KafkaStream

        return KafkaStream(
            settings.kafka_bootstrap,
            security=settings.kafka_security,
            partitions=settings.kafka_partitions,
            replicas=settings.kafka_replicas,
        )
    from burnish.feedback.stream.redis_stream import RedisStream

    return RedisStream(settings.redis_url, replicas=settings.redis_replicas)
