"""The event stream on Apache Kafka, with kafka-python 3.

Records are produced idempotently with acks=all. One key has at most one record in flight: the
client may lose batches that are in flight when its epoch is bumped, and a later record of the key
must not overtake the one that has to be sent again. Clients are made at first use and thrown away
after an error, so the next call starts from a clean state.

Left out: transactions (they would not cover our database), consumer groups, and deleting what was
read: topics keep it for their retention time.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from burnish.feedback.contract import DEAD_LETTERS, TOPICS
from burnish.feedback.errors import RecordRefused, StreamUnavailable
from burnish.feedback.stream import kafka_topics
from burnish.feedback.stream.kafka_connection import Refusals, Security, connection
from burnish.feedback.stream.record import StreamRecord
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import (
    InvalidRecordError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)
from kafka.structs import TopicPartition

log = logging.getLogger(__name__)
_refusals = Refusals()  # an outage is told once, by our callers

_REFUSALS = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidRecordError)
# A reader asks again with a new connection sooner than a writer: a request that was under way when the
# broker died waits for its whole time, and a broker is back in less than a writer's patience.
_READ_TIMEOUT_MS = 4000


class KafkaStream:
    system = "kafka"

    def __init__(
        self,
        bootstrap: str,
        *,
        topics: Sequence[str] = TOPICS,
        security: Security = Security(),
        partitions: int = 3,
        replicas: int | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        self._topics = topics
        self._partitions, self._replicas = partitions, replicas
        self._timeout_ms = int(timeout_s * 1000)
        self._common = {
            **connection(bootstrap, security),
            "bootstrap_timeout_ms": self._timeout_ms,
            "request_timeout_ms": self._timeout_ms,
            "reconnect_backoff_max_ms": 1000,
        }
        self._clients: dict[str, Any] = {}
        # Where the consumer stands, so that reading on needs no new seek.
        self._position: tuple[TopicPartition, int] | None = None

    def ensure_topics(self) -> None:
        with self._errors():
            wanted = {topic: self._partitions for topic in self._topics}
            wanted |= {topic + DEAD_LETTERS: 1 for topic in self._topics}
            kafka_topics.ensure(self._admin(), wanted, self._replicas, self._timeout_ms)

    def publish(self, records: Sequence[StreamRecord]) -> None:
        with self._errors():
            for wave in _waves(records):
                self._publish(wave)

    def partitions(self, topic: str) -> list[int]:
        with self._errors():
            return sorted(self._consumer().partitions_for_topic(topic) or [])

    def read(
        self,
        topic: str,
        partition: int,
        after: str | None,
        max_records: int = 500,
        timeout: float = 0.0,
    ) -> list[StreamRecord]:
        place = TopicPartition(topic, partition)
        with self._errors():
            consumer = self._consumer()
            end = consumer.end_offsets([place])[place]
            if after == str(end - 1) and not timeout:
                return []  # the usual answer, for one question
            start = self._seek(consumer, place, after, end)
            # What is there is worth waiting for; what is not, only as long as asked.
            patience_ms = _READ_TIMEOUT_MS if start < end else int(timeout * 1000)
            if patience_ms == 0:
                return []
            polled = consumer.poll(timeout_ms=patience_ms, max_records=max_records)
            records = [_record(message) for message in polled.get(place, [])]
            if records:
                self._position = (place, int(records[-1].offset or 0) + 1)
            return records

    def end_offset(self, topic: str, partition: int) -> str | None:
        place = TopicPartition(topic, partition)
        with self._errors():
            consumer = self._consumer()
            end = consumer.end_offsets([place])[place]
            return str(end - 1) if end > consumer.beginning_offsets([place])[place] else None

    def lag(self, topic: str, partition: int, after: str | None) -> int:
        place = TopicPartition(topic, partition)
        with self._errors():
            consumer = self._consumer()
            first = consumer.beginning_offsets([place])[place]
            start = first if after is None else max(first, int(after) + 1)
            return max(0, consumer.end_offsets([place])[place] - start)

    def trim(self, topic: str, partition: int, upto: str) -> None:
        if topic.endswith(DEAD_LETTERS):
            with self._errors():
                self._admin().delete_records({TopicPartition(topic, partition): int(upto) + 1})

    def close(self) -> None:
        clients, self._clients, self._position = self._clients, {}, None
        for client in clients.values():
            with suppress(KafkaError, OSError):
                if isinstance(client, KafkaProducer):
                    _close_producer(client)
                else:
                    client.close()

    # -- Producing ---------------------------------------------------------------------------

    def _publish(self, wave: Sequence[StreamRecord]) -> None:
        producer = self._client(
            "producer",
            KafkaProducer,
            max_block_ms=self._timeout_ms,
            delivery_timeout_ms=2 * self._timeout_ms,
            max_request_size=kafka_topics.MAX_RECORD_BYTES,
            allow_auto_create_topics=False,
        )
        sent: list[tuple[StreamRecord, Any]] = []
        failures: list[Exception] = []
        for record in wave:
            headers = [(name, value.encode()) for name, value in record.headers.items()]
            try:
                future = producer.send(
                    record.topic, record.value, key=record.key.encode(), headers=headers
                )
            except (KafkaError, OSError) as error:
                failures.append(_failure(record, error))
                break
            sent.append((record, future))
        # All of them, also after a failure: a straggler that arrives after the caller has begun
        # to publish again would come out of order.
        for record, future in sent:
            try:
                future.get(timeout=3 * self._timeout_ms / 1000)
            except (KafkaError, OSError) as error:
                failures.append(_failure(record, error))
        if failures:
            # A refusal is the more useful answer: it frees the others.
            raise next((f for f in failures if isinstance(f, RecordRefused)), failures[0])

    # -- Consuming ---------------------------------------------------------------------------

    def _seek(self, consumer: Any, place: TopicPartition, after: str | None, end: int) -> int:
        """Put the consumer behind `after`. Returns the next offset."""
        start = 0 if after is None else int(after) + 1
        if self._position == (place, start) and start <= end:
            return start
        consumer.assign([place])
        first = consumer.beginning_offsets([place])[place]
        if start > end:
            # Made anew, perhaps on another cluster. Readers drop what they have seen.
            log.error("%s ends at %d, before %d: reading it from its beginning", place, end, start)
            start = first
        elif after is not None and start < first:
            log.error("%s: offsets %d to %d are gone unread", place, start, first - 1)
        start = max(start, first)
        consumer.seek(place, start)
        self._position = (place, start)
        return start

    def _consumer(self) -> Any:
        return self._client(
            "consumer",
            KafkaConsumer,
            bootstrap_timeout_ms=min(self._timeout_ms, _READ_TIMEOUT_MS),
            request_timeout_ms=min(self._timeout_ms, _READ_TIMEOUT_MS),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            # The broker answers one request of a connection after the other: a long fetch on an
            # empty partition would hold up the question for the next one.
            fetch_max_wait_ms=20,
            max_partition_fetch_bytes=kafka_topics.MAX_RECORD_BYTES,
            allow_auto_create_topics=False,
        )

    def _admin(self) -> Any:
        return self._client("admin", KafkaAdminClient)

    def _client(self, name: str, make: Any, **options: Any) -> Any:
        if name not in self._clients:
            self._clients[name] = make(**{**self._common, **options})
        return self._clients[name]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (KafkaError, OSError) as error:
            if isinstance(error, StreamUnavailable):
                raise
            self.close()
            why = _refusals.take() or f"the brokers of BURNISH_KAFKA_BOOTSTRAP: {error}"
            raise StreamUnavailable(f"Kafka: {why}") from error


def _close_producer(producer: Any) -> None:
    try:
        # A publish has waited for all that it sent: as a rule there is nothing left to flush.
        producer.close(timeout=1)
    except KafkaError:
        # Giving up on the flush, `close` leaves the sender running, which would deliver late and
        # out of order. There is no public way to end it.
        producer._sender.force_close()
        producer._sender.join(5)
        producer.close(timeout=1)


def _failure(record: StreamRecord, error: Exception) -> Exception:
    return RecordRefused(record, str(error)) if isinstance(error, _REFUSALS) else error


def _waves(records: Sequence[StreamRecord]) -> Iterator[list[StreamRecord]]:
    """Cut where a key comes again, so that it waits for its own predecessor."""
    wave: dict[tuple[str, str], StreamRecord] = {}
    for record in records:
        place = (record.topic, record.key)
        if place in wave:
            yield list(wave.values())
            wave = {}
        wave[place] = record
    if wave:
        yield list(wave.values())


def _record(message: Any) -> StreamRecord:
    # Whatever someone else produced becomes a record too: the reader dead-letters it.
    return StreamRecord(
        topic=message.topic,
        key=(message.key or b"").decode(errors="replace"),
        value=message.value or b"",
        headers={name: (value or b"").decode(errors="replace") for name, value in message.headers},
        partition=message.partition,
        offset=str(message.offset),
    )
