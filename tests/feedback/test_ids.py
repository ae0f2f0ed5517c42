"""An id proves whom it was given to, and nothing else passes for one."""

from burnish.feedback.ids import (
    check_interaction_id,
    choices_of,
    id_keyring,
    is_recorded,
    new_interaction_id,
)
from burnish.feedback.keyring import Keyring
from hypothesis import given
from hypothesis import strategies as st

SECRET = Keyring(b"a secret")


def test_an_id_is_good_for_the_tenant_and_secret_it_was_made_with() -> None:
    made = new_interaction_id(SECRET, "acme")
    assert made.startswith("chatcmpl-")
    assert check_interaction_id(SECRET, "acme", made)
    assert not check_interaction_id(SECRET, "other", made)
    assert not check_interaction_id(Keyring(b"another"), "acme", made)


@given(st.integers(1, 128))
def test_an_id_tells_how_many_answers_it_was_given_to(choices: int) -> None:
    made = new_interaction_id(SECRET, "acme", choices)
    assert check_interaction_id(SECRET, "acme", made)
    assert choices_of(made) == choices


@given(st.integers(1, 128), st.booleans())
def test_an_id_tells_whether_its_answers_are_recorded(choices: int, recorded: bool) -> None:
    made = new_interaction_id(SECRET, "acme", choices, recorded=recorded)
    assert check_interaction_id(SECRET, "acme", made)
    assert is_recorded(made) == recorded


def test_ids_of_before_are_good_and_do_not_tell() -> None:
    old = "chatcmpl-aaaabbbbccccddddeeeeffff-szxw5ygc3mvxg43t"
    assert is_recorded(old)
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


def test_an_id_made_before_a_rotation_is_good_while_its_secret_verifies() -> None:
    made = new_interaction_id(SECRET, "acme")
    rotated = Keyring(b"new", retired=(SECRET.current,))
    assert check_interaction_id(rotated, "acme", made)
    assert check_interaction_id(rotated, "acme", new_interaction_id(rotated, "acme"))
    assert not check_interaction_id(SECRET, "acme", new_interaction_id(rotated, "acme"))
    assert not check_interaction_id(Keyring(b"new"), "acme", made)


def test_the_secret_lies_where_it_always_did(tmp_path, monkeypatch) -> None:
    """A data folder from before keyrings: its ids stay good."""
    monkeypatch.delenv("BURNISH_SECRET", raising=False)
    (tmp_path / "secret").write_bytes(b"made long ago\n")
    made = new_interaction_id(Keyring(b"made long ago\n"), "acme")
    assert check_interaction_id(id_keyring(tmp_path).read(), "acme", made)
