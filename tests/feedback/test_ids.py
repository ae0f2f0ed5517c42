"""An id proves whom it was given to, and nothing else passes for one."""

import stat
import threading

from burnish.feedback.ids import check_interaction_id, choices_of, load_secret, new_interaction_id
from hypothesis import given
from hypothesis import strategies as st

SECRET = b"a secret"


def test_an_id_is_good_for_the_tenant_and_secret_it_was_made_with() -> None:
    made = new_interaction_id(SECRET, "acme")
    assert made.startswith("chatcmpl-")
    assert check_interaction_id(SECRET, "acme", made)
    assert not check_interaction_id(SECRET, "other", made)
    assert not check_interaction_id(b"another", "acme", made)


@given(st.integers(1, 128))
def test_an_id_tells_how_many_answers_it_was_given_to(choices: int) -> None:
    made = new_interaction_id(SECRET, "acme", choices)
    assert check_interaction_id(SECRET, "acme", made)
    assert choices_of(made) == choices


def test_ids_of_before_are_good_and_do_not_tell() -> None:
    old = "chatcmpl-aaaabbbbccccddddeeeeffff-szxw5ygc3mvxg43t"
    assert check_interaction_id(SECRET, "acme", old)
    assert choices_of(old) is None


def test_ids_do_not_repeat() -> None:
    assert len({new_interaction_id(SECRET, "acme") for _ in range(1000)}) == 1000


def test_any_changed_character_spoils_an_id() -> None:
    made = new_interaction_id(SECRET, "acme")
    for i, character in enumerate(made):
        changed = made[:i] + ("b" if character == "a" else "a") + made[i + 1 :]
        assert not check_interaction_id(SECRET, "acme", changed)
    assert not check_interaction_id(SECRET, "acme", made.upper())
    assert not check_interaction_id(SECRET, "acme", made + "a")
    assert not check_interaction_id(SECRET, "acme", made[:-1])


@given(st.text(st.characters(), max_size=80))
def test_garbage_is_refused_without_an_error(text: str) -> None:
    assert not check_interaction_id(SECRET, "acme", text)
    # As long as a true one, so that it reaches the signature.
    for length in (41, 43):
        padded = (text + length * "é")[:length]
        assert not check_interaction_id(SECRET, "acme", f"chatcmpl-{padded}")


def test_the_tenants_name_cannot_be_shifted_into_the_id() -> None:
    assert not check_interaction_id(SECRET, "a", new_interaction_id(SECRET, "a\0"))


def test_the_secret_is_made_once_and_is_private(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("BURNISH_SECRET", raising=False)
    folder = tmp_path / "new"
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(load_secret(folder))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert len(found[0]) >= 32
    assert stat.S_IMODE((folder / "secret").stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == ["secret"]


def test_the_environments_secret_comes_first(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("BURNISH_SECRET", "given")
    assert load_secret(tmp_path) == b"given"
