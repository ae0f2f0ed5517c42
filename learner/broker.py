"""The Celery app's connection to Redis, which is back as soon as Redis is.

Celery tries forever, but waits 2 s longer after each failure, up to 30 s. And a message that could not
be acknowledged keeps its place among those prefetched: with all places taken the worker reads no more,
and never learns that its connection is gone. Here the pauses are short and even, and the place is free:
the message is delivered again after the visibility timeout, when its tick has expired.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.transport import redis, virtual

RETRY_S = 0.5


class PatientQoS(redis.QoS):
    def ack(self, delivery_tag: str) -> None:
        with self._freeing(delivery_tag):
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        with self._freeing(delivery_tag):
            super().reject(delivery_tag, requeue=requeue)

    @contextmanager
    def _freeing(self, delivery_tag: str) -> Iterator[None]:
        try:
            yield
        except self.channel.connection_errors:
            virtual.QoS.ack(self, delivery_tag)  # in this process only
            raise


class PatientChannel(redis.Channel):
    QoS = PatientQoS


class PatientTransport(redis.Transport):
    Channel = PatientChannel


class PatientSentinelChannel(redis.SentinelChannel):
    QoS = PatientQoS


class PatientSentinelTransport(redis.Transport):
    """To the master that the Sentinels name."""

    default_port = 26379
    Channel = PatientSentinelChannel


class PatientConnection(Connection):
    def get_transport_cls(self) -> type[redis.Transport]:
        return PatientSentinelTransport if self.transport_cls == "sentinel" else PatientTransport

    def ensure_connection(self, *arguments: Any, **options: Any) -> Any:
        steady = {"interval_start": RETRY_S, "interval_step": 0, "interval_max": RETRY_S}
        return super().ensure_connection(*arguments, **{**options, **steady})


class PatientAMQP(AMQP):
    Connection = PatientConnection
