"""A local Apache Kafka: one KRaft node, downloaded through Maven, alone or in a cluster (cluster.py).

`burnish kafka` runs it in the foreground, `burnish up --kafka` and the tests start it as a child. The
jars are cached outside the package, in a folder named after the hash of ops/kafka/pom.xml, so that an
installed wheel works and a changed pom does not use old jars.

Clients log in with SASL/PLAIN as one user, whose password lies in the data folder. Left out: TLS. For
production, set BURNISH_KAFKA_BOOTSTRAP.
"""

import base64
import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from burnish.feedback.keyring import write_private
from burnish.feedback.stream.kafka_connection import connection
from burnish.ops.passwords import KAFKA_USER, kafka_password
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

POM = Path(__file__).with_name("pom.xml")

PROPERTIES = """\
process.roles=broker,controller
node.id={node_id}
listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENTS
# Every local user can reach both ports.
listener.security.protocol.map=CLIENTS:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.mechanism.controller.protocol=PLAIN
listener.name.clients.plain.sasl.jaas.config={login}
listener.name.controller.plain.sasl.jaas.config={login}
{quorum}
log.dirs={log_dir}
num.partitions=3
auto.create.topics.enable=false
message.max.bytes=8388608
replica.fetch.max.bytes=8388608
log.retention.hours=168
{durability}
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
# A killed node can register again only after its old session has expired.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
"""
ALONE = """\
# Without a second replica, a record must be flushed to disk before it is acknowledged.
log.flush.interval.messages=1"""
REPLICATED = (
    "# A record is acknowledged once it is on two brokers; each flushes it in its own time."
)


CLASSES = "classes.jsa"  # beside the jars
ARCHIVE_S = 90.0  # to start a node that makes it, and again to stop it
# One user, who is broker, controller and client.
LOGIN = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required"
    ' username="{user}" password="{password}" user_{user}="{password}";'
)


class KafkaNodeError(Exception):
    """The node cannot be downloaded, started or reached. Root of this module's errors."""


class KafkaMissing(KafkaNodeError, RuntimeError):
    """Java, Maven or the jars are missing."""


def cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    return Path(root) / "burnish" / f"kafka-{digest}"


def fetch() -> Path:
    """The folder with Kafka's jars; downloads them through Maven first if they are missing."""
    if shutil.which("java") is None:
        raise KafkaMissing(
            "Kafka needs Java, which is not on PATH (Debian: apt-get install default-jre-headless)"
        )
    folder = cache_folder()
    if folder.is_dir():
        return folder
    if shutil.which("mvn") is None:
        raise KafkaMissing(
            "fetching Kafka needs Maven, which is not on PATH"
            " (Debian: apt-get install maven default-jre-headless)"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Filled under another name, then renamed: a folder under the final name is complete.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".kafka-") as scratch:
        libs = Path(scratch) / "libs"
        shutil.copy(POM, scratch)
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={libs}"]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
        if done.returncode or not any(libs.glob("kafka_2.13-*.jar")):
            reason = (done.stdout + done.stderr).strip().splitlines()
            raise KafkaMissing(f"Maven could not fetch Kafka: {reason[0] if reason else 'no jars'}")
        # Another process may have renamed its download first; that one is used then.
        with contextlib.suppress(OSError):
            libs.rename(folder)
    return folder


@dataclass(frozen=True)
class Member:
    """A node's place in a cluster, whose nodes are controllers and brokers alike. `voters`: every
    controller as `id@host:port`."""

    node_id: int
    controller_port: int
    voters: tuple[str, ...]
    cluster_id: str
    password: str


class KafkaNode:
    """Broker and controller in one process; `start` returns once the broker answers clients.

    Ports are stored in the data folder, since the controller's is part of the formatted metadata.
    `port=0` uses the stored port, or else a free one. `member`: it is one of several.
    """

    def __init__(
        self, data_dir: Path, port: int = 0, heap_mb: int = 512, member: Member | None = None
    ) -> None:
        self.data_dir = Path(data_dir).resolve()
        self.heap_mb = heap_mb
        self.process: subprocess.Popen[bytes] | None = None
        self._requested_port = port
        self._member = member
        self.port = port

    @property
    def bootstrap(self) -> str:
        """As BURNISH_KAFKA_BOOTSTRAP takes it, password included."""
        return f"SASL_PLAINTEXT://{KAFKA_USER}:{self._password}@127.0.0.1:{self.port}"

    @property
    def _password(self) -> str:
        return self._member.password if self._member else kafka_password(self.data_dir)

    @property
    def log_file(self) -> Path:
        return self.data_dir / "kafka.log"

    def start(self, timeout: float = 90.0) -> None:
        self.launch()
        self.wait(timeout)

    def launch(self) -> None:
        """Start the process; one of a cluster answers only once most of the others run."""
        libs = fetch()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        config = self._configure()
        if not (self.data_dir / "log" / "meta.properties").exists():
            self._format(libs, config)
        if self._member is None and not (libs / CLASSES).exists():
            self._archive_classes(libs, config)
        self._spawn(self._java(libs, "kafka.Kafka", str(config)))

    def _spawn(self, command: list[str]) -> None:
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                # In the parent's process group, with which it is killed where the parent cannot.
                cwd=self.data_dir,
            )

    def wait(self, timeout: float) -> None:
        """Until it answers clients. Raises KafkaNodeError, and has ended it then."""
        try:
            self._wait(time.monotonic() + timeout)
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout: float = 20.0) -> None:
        """SIGTERM, then SIGKILL after `timeout` seconds."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.process.wait()
        self.process = None

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _configure(self) -> Path:
        stored = self.data_dir / "ports.json"
        ports = _read_ports(stored)
        self.port = self._requested_port or ports.get("port") or free_port()
        controller_port = ports.get("controller_port") or free_port()
        if self._member is not None:
            controller_port = self._member.controller_port
        for port in (self.port, controller_port):
            if not _is_free(port):
                raise KafkaNodeError(f"port {port} on 127.0.0.1 is in use")
        chosen = {"port": self.port, "controller_port": controller_port}
        if chosen != ports:
            write_private(stored, json.dumps(chosen).encode())
        config = self.data_dir / "server.properties"
        one_of_several = self._member is not None
        quorum = f"controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}"
        if self._member is not None:
            quorum = f"controller.quorum.voters={','.join(self._member.voters)}"
        content = PROPERTIES.format(
            node_id=self._member.node_id if self._member else 1,
            quorum=quorum,
            durability=REPLICATED if one_of_several else ALONE,
            replicas=3 if one_of_several else 1,
            in_sync=2 if one_of_several else 1,
            port=self.port,
            controller_port=controller_port,
            log_dir=self.data_dir / "log",
            login=LOGIN.format(user=KAFKA_USER, password=self._password),
        )
        write_private(config, content.encode())
        return config

    def _format(self, libs: Path, config: Path) -> None:
        how = ["--standalone", "-t", random_cluster_id()]
        if self._member is not None:  # the voters are in its properties
            how = ["-t", self._member.cluster_id]
        command = self._java(libs, "kafka.tools.StorageTool", "format", *how)
        done = subprocess.run([*command, "-c", str(config)], capture_output=True, text=True)
        if done.returncode:
            raise KafkaNodeError(f"cannot format {self.data_dir}: {done.stdout}{done.stderr}")

    def _archive_classes(self, libs: Path, config: Path) -> None:
        """Once per machine: the classes that a node loads, parsed and verified, which takes a second and
        a half off every later start (JEP 350). One that cannot be made is done without."""
        draft = libs / f".{CLASSES}-{os.getpid()}"
        command = self._java(libs, "kafka.Kafka", str(config))
        with contextlib.suppress(KafkaNodeError, OSError):
            self._spawn([command[0], f"-XX:ArchiveClassesAtExit={draft}", *command[1:]])
            self.wait(ARCHIVE_S)
            self.stop(ARCHIVE_S)
            draft.replace(libs / CLASSES)
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)

    def _java(self, libs: Path, main: str, *arguments: str) -> list[str]:
        # C1 only: starts faster, and is fast enough for one machine.
        tuning = [f"-Xmx{self.heap_mb}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        if (libs / CLASSES).exists():  # made by another Java it is of no use, and no harm
            tuning += [f"-XX:SharedArchiveFile={libs / CLASSES}", "-Xshare:auto", "-Xlog:cds=off"]
        return ["java", *tuning, "-cp", f"{libs}/*", main, *arguments]

    def _wait(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                tail = self.log_file.read_text(errors="replace").splitlines()[-15:]
                raise KafkaNodeError("Kafka ended while starting:\n" + "\n".join(tail))
            if not _is_free(self.port) and self._answers():
                return
            time.sleep(0.1)
        raise KafkaNodeError(f"Kafka did not answer in time; see {self.log_file}")

    def _answers(self) -> bool:
        try:
            admin = KafkaAdminClient(
                **connection(self.bootstrap),
                bootstrap_timeout_ms=3000,  # pyright: ignore[reportCallIssue]
            )
        except (KafkaError, OSError):
            return False
        try:
            admin.list_topics()
            return True
        except (KafkaError, OSError):
            return False
        finally:
            admin.close()


def _read_ports(stored: Path) -> dict[str, int]:
    """What was chosen at the first start; empty before it. Raises KafkaNodeError."""
    if not stored.exists():
        return {}
    try:
        return json.loads(stored.read_text())
    except ValueError as error:
        raise KafkaNodeError(
            f'{stored} is damaged; write into it {{"port": P, "controller_port": C}} with the'
            " ports that server.properties beside it names"
        ) from error


def random_cluster_id() -> str:
    """A random UUID as Kafka writes it: URL-safe base64 without padding, not starting with `-`."""
    while True:
        encoded = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not encoded.startswith("-"):
            return encoded


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
