"""Topics: made with what the events need, and never altered once they are there.

A topic that an operator made, or a setting that somebody changed, is theirs; what in it endangers events
is told once. The checks ask for what a client may see, so a cluster that hides it is taken as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from burnish.feedback.errors import StreamUnavailable
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
)

log = logging.getLogger(__name__)

REPLICAS = 3  # where there are so many brokers
MAX_RECORD_BYTES = 8 * 2**20
_DENIED = (ClusterAuthorizationFailedError, TopicAuthorizationFailedError)
_told: set[str] = set()  # of this process


def ensure(admin: Any, wanted: Mapping[str, int], replicas: int | None, timeout_ms: int) -> None:
    """Create the topics (name -> partitions) that are missing, and look at the others.

    Raises StreamUnavailable, with what an operator has to create, where this user may not.
    """
    brokers = len(admin.describe_cluster()["brokers"])
    count = replicas or min(REPLICAS, brokers)
    there = set(admin.list_topics())
    settings = settings_for(count)
    missing = {
        topic: {"num_partitions": parts, "replication_factor": count, "configs": settings}
        for topic, parts in wanted.items()
        if topic not in there
    }
    if missing:
        try:
            with suppress(TopicAlreadyExistsError):
                admin.create_topics(missing)
        except _DENIED as error:
            asked = ", ".join(f"{name} ({wanted[name]} partitions)" for name in missing)
            given = ", ".join(f"{name}={value}" for name, value in settings.items())
            raise StreamUnavailable(
                f"the user of BURNISH_KAFKA_BOOTSTRAP may not create topics ({error}): create {asked}"
                f" with {count} replicas and {given}"
            ) from error
        admin.wait_for_topics(list(missing), timeout_ms=timeout_ms)
    for problem in _problems(admin, sorted(there & set(wanted)), min(REPLICAS, brokers)):
        if problem not in _told:
            _told.add(problem)
            log.warning("Kafka: %s; it is left as it is", problem)


def settings_for(replicas: int) -> dict[str, str]:
    """A record is acknowledged once it is on two brokers, where there is a third that may be away."""
    return {
        "min.insync.replicas": "2" if replicas >= REPLICAS else "1",
        "unclean.leader.election.enable": "false",
        "cleanup.policy": "delete",
        "max.message.bytes": str(MAX_RECORD_BYTES),
    }


def _problems(admin: Any, topics: list[str], replicas: int) -> Iterator[str]:
    """What of topics that are there endangers events."""
    if not topics:
        return
    try:
        described = admin.describe_topics(topics)
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
        configs = admin.describe_configs(resources, config_filter="all")
    except KafkaError as error:
        log.debug("the settings of topics cannot be seen: %s", error)
        return
    found = {k: v for by_name in configs.values() for k, v in by_name.items()}
    for topic in described:
        name = topic["name"]
        config = {key: data["value"] for key, data in found.get(name, {}).items()}
        fewest = min((len(p["replica_nodes"]) for p in topic["partitions"]), default=replicas)
        if fewest < replicas:
            yield f"topic {name} has {fewest} replicas, {replicas} brokers could hold it"
        elif fewest >= REPLICAS and int(config.get("min.insync.replicas", 2)) < 2:
            yield (
                f"topic {name} has min.insync.replicas=1: what one broker acknowledged is lost with"
                " that broker"
            )
        if config.get("cleanup.policy", "delete") != "delete":
            yield f"topic {name} is compacted: of the events with one key all but the last are lost"
        if int(config.get("max.message.bytes", MAX_RECORD_BYTES)) < MAX_RECORD_BYTES:
            yield f"topic {name} refuses records of more than {config['max.message.bytes']} bytes"
