"""A keyring is made once, is private, and is replaced while processes use it."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest
from burnish.feedback.keyring import Keyring, KeyringFile

NAME = "BURNISH_TEST_SECRET"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (NAME, f"{NAME}_RETIRED"):
        monkeypatch.delenv(name, raising=False)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_it_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret"
    found: list[bytes] = []
    prepared: list[bytes] = []

    def read() -> None:
        mine = KeyringFile(path, NAME)
        found.append(mine.read(lambda made: prepared.append(made.current)).current)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [found[0]] * 8
    assert prepared == [found[0]]  # and what had to come before its use came once
    assert len(found[0]) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["secret"]


def test_what_must_come_before_its_use_and_fails_leaves_none(tmp_path: Path) -> None:
    keyring = KeyringFile(tmp_path / "secret", NAME)

    def fail(_: Keyring) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        keyring.read(fail)
    assert list(tmp_path.iterdir()) == []


def test_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "given")
    monkeypatch.setenv(f"{NAME}_RETIRED", "older oldest")
    keyring = KeyringFile(tmp_path / "secret", NAME)
    assert keyring.read() == Keyring(b"given", (b"older", b"oldest"))
    with pytest.raises(ValueError, match=f"{NAME}_RETIRED"):
        keyring.rotate()
    assert list(tmp_path.iterdir()) == []


def test_a_retired_secret_verifies_for_its_time_in_every_process(tmp_path: Path) -> None:
    clock = Clock()
    serving, command = (KeyringFile(tmp_path / "secret", NAME, clock) for _ in range(2))
    signed = serving.read().sign(b"message")
    command.rotate(keep_s=60)
    assert serving.read().current == command.read().current
    assert serving.read().sign(b"message") != signed
    assert serving.read().verifies(b"message", signed)
    clock.now += 61
    assert not serving.read().verifies(b"message", signed)


def test_rotated_twice_both_old_secrets_verify_until_they_are_dropped(tmp_path: Path) -> None:
    keyring = KeyringFile(tmp_path / "secret", NAME)
    signatures = []
    for _ in range(3):
        signatures.append(keyring.read().sign(b"message"))
        keyring.rotate()
    assert all(keyring.read().verifies(b"message", one) for one in signatures)
    modes = {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {0o600}
    keyring.drop_retired()
    assert not any(keyring.read().verifies(b"message", one) for one in signatures)


@pytest.mark.parametrize("length", [0, 1, 9])
def test_a_signature_too_short_to_prove_anything_proves_nothing(length: int) -> None:
    keyring = Keyring(b"secret")
    assert not keyring.verifies(b"message", keyring.sign(b"message")[:length])
    assert keyring.verifies(b"message", keyring.sign(b"message")[:10])
