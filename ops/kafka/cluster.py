"""Several Kafka nodes on one machine, each a broker and a controller: `burnish kafka --brokers 3`.

Topics have three replicas, and a record is acknowledged once two have it (min.insync.replicas=2), so any
one broker may be away without anything being refused or lost. On one machine that proves the way of
working; against the loss of the machine it is worth nothing.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from burnish.feedback.keyring import write_private
from burnish.ops.kafka.node import (
    KafkaNode,
    KafkaNodeError,
    Member,
    free_port,
    random_cluster_id,
)
from burnish.ops.passwords import KAFKA_USER, kafka_password

FEWEST = 3  # of a cluster: with two, neither may be away


@dataclass(frozen=True)
class Layout:
    """What must stay as it was first: kept in the cluster's folder."""

    cluster_id: str
    ports: list[int]
    controller_ports: list[int]


class KafkaCluster:
    """`start` returns once every broker answers clients; nodes may be killed and started again.

    `port`: of the first broker, the others follow; 0: free ones. Both only at the first start.
    """

    def __init__(
        self, data_dir: Path, brokers: int = FEWEST, port: int = 0, heap_mb: int = 512
    ) -> None:
        if brokers < FEWEST:
            raise KafkaNodeError(f"a cluster has {FEWEST} brokers or more; one runs alone")
        self.data_dir = Path(data_dir).resolve()
        layout = self._layout(brokers, port)
        password = kafka_password(self.data_dir)
        controllers = list(enumerate(layout.controller_ports, 1))
        voters = tuple(f"{number}@127.0.0.1:{where}" for number, where in controllers)
        self.nodes = [
            KafkaNode(
                self.data_dir / f"broker-{number}",
                layout.ports[number - 1],
                heap_mb,
                Member(number, where, voters, layout.cluster_id, password),
            )
            for number, where in controllers
        ]

    @property
    def bootstrap(self) -> str:
        """As BURNISH_KAFKA_BOOTSTRAP takes it, password included."""
        return self.bootstrap_with(kafka_password(self.data_dir))

    def bootstrap_with(self, password: str) -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"SASL_PLAINTEXT://{KAFKA_USER}:{password}@{hosts}"

    def start(self, timeout: float = 180.0) -> None:
        """Raises KafkaNodeError."""
        deadline = time.monotonic() + timeout
        try:
            for node in self.nodes:
                node.launch()
            for node in self.nodes:
                node.wait(deadline - time.monotonic())
        except BaseException:
            for node in self.nodes:
                node.kill()
            raise

    def stop(self) -> None:
        for node in self.nodes:  # at once: the last ones alone would wait for a quorum in vain
            if node.process is not None:
                node.process.terminate()
        for node in self.nodes:
            node.stop()

    def ended(self) -> list[KafkaNode]:
        """Nodes that have ended by themselves."""
        return [n for n in self.nodes if n.process is not None and n.process.poll() is not None]

    def _layout(self, brokers: int, port: int) -> Layout:
        stored = self.data_dir / "cluster.json"
        if stored.exists():
            layout = Layout(**json.loads(stored.read_text()))
            if len(layout.ports) != brokers:
                raise KafkaNodeError(
                    f"{self.data_dir} holds a cluster of {len(layout.ports)} brokers, not {brokers}:"
                    f" start it with --brokers {len(layout.ports)}, or give another --data-dir"
                )
            return layout
        self.data_dir.mkdir(parents=True, exist_ok=True)
        ports = [port + n if port else free_port() for n in range(brokers)]
        layout = Layout(random_cluster_id(), ports, [free_port() for _ in range(brokers)])
        write_private(stored, json.dumps(asdict(layout)).encode())
        return layout


def run_kafka(data_dir: Path, port: int, brokers: int = 1) -> int:
    """Run a node, or a cluster, in the foreground until Ctrl-C or SIGTERM. Returns the exit code."""
    if brokers > 1:
        cluster = KafkaCluster(data_dir / "cluster", brokers, port)
        nodes, start, stop = cluster.nodes, cluster.start, cluster.stop
        folder, bootstrap = cluster.data_dir, lambda: cluster.bootstrap_with("PASSWORD")
    else:
        node = KafkaNode(data_dir, port)
        nodes, start, stop = [node], node.start, node.stop
        folder = node.data_dir

        def bootstrap() -> str:
            return f"SASL_PLAINTEXT://{KAFKA_USER}:PASSWORD@127.0.0.1:{node.port}"

    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    start()
    ports = ", ".join(f"127.0.0.1:{each.port}" for each in nodes)
    print(f"Kafka at {ports} (data in {folder}); Ctrl-C stops it")
    shown = bootstrap().replace("PASSWORD", f"$(cat {folder}/password)")
    print(f"BURNISH_KAFKA_BOOTSTRAP={shown}", flush=True)
    gone: set[int] = set()
    while not stopped.wait(0.5):
        for each in nodes:
            if each.process is None or each.process.poll() is not None:
                if each.port not in gone:
                    print(f"Kafka at {each.port} ended by itself; see {each.log_file}", flush=True)
                gone.add(each.port)
        if 2 * len(gone) >= len(nodes):  # no quorum is left
            stop()
            return 1
    stop()
    return 0
