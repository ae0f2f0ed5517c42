"""What a person did travels sealed under their key, and is gone with it; on a real Redis and a real Kafka."""

from collections.abc import Callable, Iterator

import pytest
import redis
from burnish.feedback.contract import FEEDBACK, USER_KEYS
from burnish.feedback.errors import KeyDestroyed, RecordRefused, StreamUnavailable, UnknownEvent
from burnish.feedback.events import Event, RetractionEvent, decode, encode
from burnish.feedback.stream.event_stream import EventStream
from burnish.feedback.stream.record import SEALED
from burnish.feedback.stream.sealing import SealingStream, seal, unseal
from burnish.feedback.stream.user_keys import UserKey, UserKeys, pseudonym
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import free_port
from tests.feedback.conftest import OpenStream, interaction, read_all, thumbs

SAID = "my address is 1 Zanzibar Lane"


@pytest.fixture
def keys(redis_url: str, redis_client: redis.Redis) -> Iterator[UserKeys]:
    made = UserKeys(redis_url)
    yield made
    made.close()


@pytest.fixture
def sealing(open_one: OpenStream, keys: UserKeys) -> Callable[[], SealingStream]:
    def open_sealing() -> SealingStream:
        made = SealingStream(open_one(), keys)
        made.ensure_topics()
        return made

    return open_sealing


def asked(user: str | None = "ann", name: str = "i1") -> Event:
    return interaction(name, user=user, messages=[{"role": "user", "content": SAID}])


def publish(stream: EventStream, topic: str, *events: Event) -> None:
    stream.publish([encode(event, topic) for event in events])


def test_what_was_published_is_read_as_it_was(
    sealing: Callable[[], SealingStream], topic: str
) -> None:
    events = [asked(), asked("bob", "i2"), asked(None, "i3"), thumbs(), thumbs(id="f2", user="bob")]
    publish(sealing(), topic, *events)
    found = read_all(sealing(), topic)
    assert {record.event_id: decode(record) for record in found} == {e.event_id: e for e in events}
    assert all(SEALED not in record.headers for record in found)


def test_on_its_way_nothing_of_it_can_be_read(
    sealing: Callable[[], SealingStream], open_one: OpenStream, topic: str
) -> None:
    session = {"interaction_id": None, "session_id": "anns-diary"}
    publish(
        sealing(),
        topic,
        asked(),
        thumbs(SAID, name="comment", **session),
        RetractionEvent(
            id="r", tenant="acme", feedback_id="f1", user="ann", session_id="anns-diary"
        ),
    )
    lying = read_all(open_one(), topic)
    assert len(lying) == 3
    for record in lying:
        written = repr((record.key, record.value, dict(record.headers)))
        assert not any(said in written for said in ("Zanzibar", "ann", "hello"))
        assert record.headers["ce_time"]


def test_without_the_key_nobody_reads_it_and_others_are_read_as_before(
    sealing: Callable[[], SealingStream], keys: UserKeys, topic: str
) -> None:
    publish(sealing(), topic, asked(), asked("bob", "i2"))
    assert keys.destroy("acme", "ann")
    assert not keys.destroy("acme", "ann")
    hers, his = sorted(read_all(sealing(), topic), key=lambda record: record.event_id)
    with pytest.raises(KeyDestroyed):
        decode(hers)
    assert decode(his).id == "i2"


def test_what_they_do_after_that_is_sealed_under_a_new_key(
    sealing: Callable[[], SealingStream], keys: UserKeys, topic: str
) -> None:
    stream = sealing()
    publish(stream, topic, asked())
    keys.destroy("acme", "ann")
    publish(stream, topic, asked(name="i2"))
    found = {record.event_id: record for record in read_all(stream, topic)}
    assert decode(found["i2"]).id == "i2"
    with pytest.raises(KeyDestroyed):
        decode(found["i1"])


def test_a_key_that_is_lost_is_no_erasure(
    sealing: Callable[[], SealingStream], redis_client: redis.Redis, topic: str
) -> None:
    publish(sealing(), topic, asked())
    redis_client.delete(USER_KEYS)
    [record] = read_all(sealing(), topic)
    with pytest.raises(UnknownEvent, match="not in Redis"):
        decode(record)


def test_after_an_erasure_nothing_says_whose_it_was(
    keys: UserKeys, redis_client: redis.Redis
) -> None:
    keys.sealing({("acme", "ann")})
    keys.destroy("acme", "ann")
    left = redis_client.hgetall(USER_KEYS)
    assert len(left) == 1
    assert all(name.startswith(b"k:") and value == b"" for name, value in left.items())  # type: ignore[union-attr]


def test_processes_agree_on_one_key(redis_url: str, keys: UserKeys) -> None:
    other = UserKeys(redis_url)
    person = ("acme", "ann")
    made = keys._make(keys._redis.on(USER_KEYS), {person: f"u:{pseudonym(*person)}"})
    again = other._make(other._redis.on(USER_KEYS), {person: f"u:{pseudonym(*person)}"})
    assert made == again
    assert other.sealing({person}) == keys.sealing({person})
    other.close()


def test_while_redis_is_away_nothing_is_published_in_the_clear(
    open_one: OpenStream, topic: str
) -> None:
    inner = open_one()
    inner.ensure_topics()
    stream = SealingStream(inner, UserKeys(f"redis://127.0.0.1:{free_port()}/0"))
    with pytest.raises(StreamUnavailable):
        publish(stream, topic, asked())
    assert read_all(inner, topic) == []


def test_a_refusal_names_the_record_that_was_given(keys: UserKeys) -> None:
    class Refusing:
        system = "redis"

        def publish(self, records) -> None:
            raise RecordRefused(records[1], "too large")

    records = [encode(asked(), FEEDBACK), encode(asked(name="i2"), FEEDBACK)]
    with pytest.raises(RecordRefused) as caught:
        SealingStream(Refusing(), keys).publish(records)  # type: ignore[arg-type]
    assert caught.value.record is records[1]


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.text())
def test_only_its_own_key_opens_it(secret: bytes, other: bytes, said: str) -> None:
    record = encode(interaction("i1", user="ann", metadata={"said": said.replace("\ud800", "")}))
    sealed = seal(record, UserKey("k", secret))
    assert decode(unseal(sealed, {"k": secret})) == decode(record)
    moved = sealed.with_headers({"ce_id": "another"})
    for changed, key in ((sealed, other), (moved, secret)):
        if key != secret or changed is moved:
            assert unseal(changed, {"k": key}) is changed


def test_names_are_not_confused() -> None:
    assert pseudonym("a", "b c") != pseudonym("a b", "c")
    assert pseudonym("a", "b") == pseudonym("a", "b")
