"""How to reach Kafka: BURNISH_KAFKA_BOOTSTRAP, and where it takes more than that, `Security`.

    127.0.0.1:9092
    SASL_SSL://user:password@one.example:9093,two.example:9093

Left out: SASL by Kerberos and OAuth.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")


Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True)
class Security:
    """`mechanism`: how a user logs in (RFC 4616, RFC 5802). PEM files: the authorities that the
    brokers' certificates are from (None: the system's), and this client's own certificate and key."""

    mechanism: Mechanism = "PLAIN"
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


def connection(bootstrap: str, security: Security = Security()) -> dict[str, Any]:
    """The client's options for `[PROTOCOL://][user:password@]host:port[,host:port]`.

    The protocols are Kafka's own names, PLAINTEXT by default; a user logs in with SASL, SASL_SSL unless
    the protocol says SASL_PLAINTEXT. Reserved characters of user and
    password are percent-encoded. Raises ValueError, which never names the password.
    """
    protocol, separator, rest = bootstrap.rpartition("://")
    login, at, servers = rest.rpartition("@")
    protocol = protocol if separator else ("SASL_SSL" if at else "PLAINTEXT")
    if protocol not in PROTOCOLS:
        raise ValueError(f"Kafka's protocols are {', '.join(PROTOCOLS)}, not {protocol}")
    if protocol.startswith("SASL") != bool(at):
        raise ValueError(
            f"with {protocol} " + ("a login is used" if not at else "no login is used")
        )
    options: dict[str, Any] = {
        "bootstrap_servers": servers.split(","),
        "security_protocol": protocol,
    }
    if at:
        user, _, password = login.partition(":")
        options |= {
            "sasl_mechanism": security.mechanism,
            "sasl_plain_username": unquote(user),
            "sasl_plain_password": unquote(password),
        }
    if protocol.endswith("SSL"):
        files = (
            ("ssl_cafile", security.ca),
            ("ssl_certfile", security.certificate),
            ("ssl_keyfile", security.key),
        )
        options |= {name: str(file) for name, file in files if file is not None}
    return options


# How the client's log names what a person can put right, and what that is.
_REMEDIES = {
    "SaslAuthenticationFailedError": (
        "the brokers refuse the user or the password of BURNISH_KAFKA_BOOTSTRAP"
    ),
    "UnsupportedSaslMechanismError": (
        "the brokers do not log users in by what BURNISH_KAFKA_SASL says"
    ),
    "CERTIFICATE_VERIFY_FAILED": (
        "the brokers' certificate is not from whom BURNISH_KAFKA_CA trusts, or for another host"
    ),
    "WRONG_VERSION_NUMBER": "the brokers do not speak TLS at the address of BURNISH_KAFKA_BOOTSTRAP",
    "CERTIFICATE_REQUIRED": "the brokers ask for BURNISH_KAFKA_CERTIFICATE and BURNISH_KAFKA_KEY",
}


class Refusals(logging.Handler):
    """Hears the client's log in place of people: it names each attempt to connect there, and why one was
    refused nowhere else."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._last: str | None = None
        logger = logging.getLogger("kafka")
        logger.setLevel(logging.ERROR)
        logger.propagate = False
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        self._last = next((told for sign, told in _REMEDIES.items() if sign in line), self._last)

    def take(self) -> str | None:
        """What was wrong since the last call, if a person can put it right."""
        last, self._last = self._last, None
        return last
