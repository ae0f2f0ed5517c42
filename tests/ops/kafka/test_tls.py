"""A broker behind TLS that asks for a login by SCRAM and for a certificate of the client."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from burnish.feedback.errors import StreamUnavailable
from burnish.feedback.settings import StreamSettings
from burnish.feedback.stream.kafka_connection import Security, connection
from burnish.feedback.stream.kafka_stream import KafkaStream
from burnish.feedback.stream.opening import open_stream
from burnish.ops.kafka import node as kafka_node
from burnish.ops.kafka.node import KafkaMissing, KafkaNode
from kafka import KafkaAdminClient
from kafka.admin import (
    ScramMechanism,  # pyright: ignore[reportAttributeAccessIssue]
    UserScramCredentialUpsertion,  # pyright: ignore[reportAttributeAccessIssue]
)

from tests.conftest import free_port, missing
from tests.feedback.conftest import read_all, records
from tests.waiting import eventually

USER, PASSWORD = "ann", "hunter/2"

SECURE = """
listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.ssl.client.auth=required
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location={folder}/broker.pem
listener.name.secure.ssl.truststore.type=PEM
listener.name.secure.ssl.truststore.location={folder}/ca.crt
"""


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def certify(folder: Path, name: str) -> None:
    """A key and a certificate that our own authority has signed, for 127.0.0.1."""
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1")
    request = ["-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr"]
    openssl(folder, "req", *request, "-subj", f"/CN={name}")
    signed_by = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "san"]
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *signed_by)
    both = (folder / f"{name}.key").read_text() + (folder / f"{name}.crt").read_text()
    (folder / f"{name}.pem").write_text(both)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tls")
    for name in ("ca", "stranger"):
        own = ["-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key"]
        openssl(made, "req", *own, "-out", f"{name}.crt", "-subj", f"/CN={name}")
    certify(made, "broker")
    certify(made, "client")
    return made


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        properties = kafka_node.PROPERTIES
        for where in ("listeners=", "advertised.listeners="):
            properties = properties.replace(f"\n{where}", f"\n{where}SECURE://127.0.0.1:{port},")
        protocols = "listener.security.protocol.map="
        properties = properties.replace(protocols, f"{protocols}SECURE:SASL_SSL,")
        patch.setattr(
            kafka_node, "PROPERTIES", properties + SECURE.replace("{folder}", str(folder))
        )
        node = KafkaNode(folder / "kafka", heap_mb=256)
        try:
            node.start(timeout=200)
        except KafkaMissing as error:
            missing(str(error))
    admin: Any = KafkaAdminClient(**connection(node.bootstrap))
    user = UserScramCredentialUpsertion(USER, ScramMechanism.SCRAM_SHA_512, PASSWORD)
    admin.alter_user_scram_credentials([user])
    admin.close()
    yield f"127.0.0.1:{port}"
    node.stop()


def test_settings_name_what_it_takes(folder: Path, address: str, monkeypatch):
    for name, value in {
        "BOOTSTRAP": f"SASL_SSL://{USER}:hunter%2F2@{address}",
        "SASL": "SCRAM-SHA-512",
        "CA": str(folder / "ca.crt"),
        "CERTIFICATE": str(folder / "client.crt"),
        "KEY": str(folder / "client.key"),
    }.items():
        monkeypatch.setenv(f"BURNISH_KAFKA_{name}", value)
    stream = open_stream(StreamSettings())
    stream.ensure_topics()
    stream.publish(records("burnish.feedback", [("k", "1"), ("k", "2")]))
    assert [record.event_id for record in read_all(stream, "burnish.feedback")] == ["1", "2"]
    stream.close()


@pytest.mark.parametrize(
    ("user", "security", "told"),
    [
        ("ann:guess", {}, "BURNISH_KAFKA_BOOTSTRAP"),
        ("ann:hunter%2F2", {"ca": "stranger.crt"}, "BURNISH_KAFKA_CA"),
        ("ann:hunter%2F2", {"mechanism": "PLAIN"}, "BURNISH_KAFKA_SASL"),
    ],
)
def test_what_is_wrong_is_told_by_the_setting(
    folder: Path, address: str, user: str, security: dict[str, str], told: str
):
    given = {"ca": "ca.crt", "certificate": "client.crt", "key": "client.key", **security}
    mechanism = given.pop("mechanism", "SCRAM-SHA-512")
    files = {name: folder / file for name, file in given.items()}
    stream = KafkaStream(
        f"SASL_SSL://{user}@{address}",
        topics=["mine"],
        timeout_s=4,
        security=Security(mechanism, **files),  # type: ignore[arg-type]
    )

    def is_told() -> bool:
        # A broker that is tired of failed logins hangs up without a reason, now and then.
        with pytest.raises(StreamUnavailable) as caught:
            stream.ensure_topics()
        assert "hunter" not in str(caught.value)
        return told in str(caught.value)

    eventually(is_told, 90)
    stream.close()
