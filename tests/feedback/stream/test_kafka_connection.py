"""One setting says how to reach Kafka, and an error in it never repeats the password."""

from __future__ import annotations

import pytest
from burnish.feedback.settings import StreamSettings
from burnish.feedback.stream.kafka_connection import connection
from pydantic import ValidationError


def test_hosts_alone_are_plain() -> None:
    assert connection("one:9092,two:9092") == {
        "bootstrap_servers": ["one:9092", "two:9092"],
        "security_protocol": "PLAINTEXT",
    }
    assert connection("SSL://one:9093")["security_protocol"] == "SSL"


@pytest.mark.parametrize(
    ("prefix", "protocol"),
    [("", "SASL_SSL"), ("SASL_SSL://", "SASL_SSL"), ("SASL_PLAINTEXT://", "SASL_PLAINTEXT")],
)
def test_a_login_is_sasl_plain(prefix: str, protocol: str) -> None:
    assert connection(f"{prefix}ann:p%40ss:%2F@one:9092") == {
        "bootstrap_servers": ["one:9092"],
        "security_protocol": protocol,
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "ann",
        "sasl_plain_password": "p@ss:/",
    }


@pytest.mark.parametrize(
    "bootstrap",
    ["http://ann:hunter2@one:9092", "PLAINTEXT://ann:hunter2@one:9092", "SASL_SSL://one:9092"],
)
def test_what_cannot_be_meant_is_refused(bootstrap: str) -> None:
    with pytest.raises(ValidationError) as caught:
        StreamSettings(kafka_bootstrap=bootstrap)
    assert "hunter2" not in str(caught.value)
