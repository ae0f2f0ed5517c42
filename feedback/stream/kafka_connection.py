"""How to reach Kafka, from one setting: BURNISH_KAFKA_BOOTSTRAP.

    127.0.0.1:9092
    SASL_SSL://user:password@one.example:9093,two.example:9093

Left out: SASL mechanisms other than PLAIN, certificates of clients.
"""

from typing import Any
from urllib.parse import unquote

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")


def connection(bootstrap: str) -> dict[str, Any]:
    """The client's options for `[PROTOCOL://][user:password@]host:port[,host:port]`.

    The protocols are Kafka's own names, PLAINTEXT by default; a user logs in with SASL/PLAIN
    (RFC 4616), SASL_SSL unless the protocol says SASL_PLAINTEXT. Reserved characters of user and
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
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": unquote(user),
            "sasl_plain_password": unquote(password),
        }
    return options
