"""The node can be had, or it says in one sentence what is missing."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from burnish.feedback.errors import StreamUnavailable
from burnish.feedback.stream.kafka_stream import KafkaStream
from burnish.feedback.stream.record import StreamRecord
from burnish.ops.kafka import node as kafka_node
from burnish.ops.kafka.node import KafkaMissing, KafkaNode, KafkaNodeError, fetch

from tests.conftest import free_port


def only(monkeypatch: pytest.MonkeyPatch, folder: Path, *programs: str) -> None:
    """A machine that has only these programs, and no jars yet."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    for program in programs:
        found = shutil.which(program)
        if found is None:
            pytest.skip(f"{program} is not installed")
        (bin_folder / program).symlink_to(found)
    monkeypatch.setenv("PATH", str(bin_folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


def test_without_java_the_package_is_named(tmp_path: Path, monkeypatch) -> None:
    only(monkeypatch, tmp_path)
    with pytest.raises(KafkaMissing, match="default-jre-headless"):
        fetch()


def test_without_maven_the_packages_are_named(tmp_path: Path, monkeypatch) -> None:
    only(monkeypatch, tmp_path, "java")
    with pytest.raises(KafkaMissing, match="maven default-jre-headless"):
        fetch()


def test_jars_that_are_there_need_no_maven(tmp_path: Path, monkeypatch) -> None:
    only(monkeypatch, tmp_path, "java")
    kafka_node.cache_folder().mkdir(parents=True)
    assert fetch() == kafka_node.cache_folder()


def test_a_changed_pom_means_other_jars(tmp_path: Path, monkeypatch) -> None:
    before = kafka_node.cache_folder()
    changed = tmp_path / "pom.xml"
    changed.write_text(kafka_node.POM.read_text() + "\n")
    monkeypatch.setattr(kafka_node, "POM", changed)
    assert kafka_node.cache_folder() != before


def test_a_full_disk_leaves_its_ports_as_they_are(tmp_path: Path, monkeypatch) -> None:
    node = KafkaNode(tmp_path, free_port())
    node._configure()
    chosen = (tmp_path / "ports.json").read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        KafkaNode(tmp_path, free_port())._configure()
    assert (tmp_path / "ports.json").read_bytes() == chosen


def test_damaged_ports_are_named(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text("")
    with pytest.raises(KafkaNodeError, match=r"ports\.json is damaged; write into it"):
        KafkaNode(tmp_path, free_port())._configure()


def test_a_port_in_use_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(kafka_node, "fetch", lambda: tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(KafkaNodeError, match=f"port {port}"):
            KafkaNode(tmp_path / "data", port).start()


@pytest.mark.usefixtures("kafka_bootstrap")  # skips, or fails, where Kafka cannot be had
def test_in_the_foreground_until_asked_to_stop(tmp_path: Path) -> None:
    port = free_port()
    code = "import sys; from pathlib import Path; from burnish.ops.kafka.cluster import run_kafka; sys.exit(run_kafka(Path(sys.argv[1]), int(sys.argv[2])))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), str(port)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert f"127.0.0.1:{port}" in process.stdout.readline()
    password = (tmp_path / "password").read_text()
    assert password not in process.stdout.readline()  # it says where the password lies
    assert {file.stat().st_mode & 0o077 for file in tmp_path.glob("*.properties")} == {0}
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_without_the_password_nothing_is_read_or_written(kafka_bootstrap: str) -> None:
    address = kafka_bootstrap.rpartition("@")[2]
    for stranger in (address, f"SASL_PLAINTEXT://burnish:guess@{address}"):
        stream = KafkaStream(stranger, topics=["mine"], timeout_s=3)
        with pytest.raises(StreamUnavailable):
            stream.ensure_topics()
        with pytest.raises(StreamUnavailable):
            stream.publish([StreamRecord("mine", "key", b"value")])
        stream.close()
    ours = KafkaStream(kafka_bootstrap, topics=[f"topic-{free_port()}"])
    ours.ensure_topics()
    ours.close()
