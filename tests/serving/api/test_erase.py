"""POST /v1/erase on a running service, a real Redis and the learner's own code: nothing of the person is left."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from burnish.feedback.contract import (
    ERASED_KEY,
    FEEDBACK,
    INTAKE_KEY,
    INTERACTIONS,
    STREAM_PREFIX,
    USER_KEYS,
)
from burnish.feedback.erasures import Erasures
from burnish.feedback.events import decode
from burnish.feedback.settings import StreamSettings
from burnish.feedback.stream.opening import open_stream
from burnish.feedback.stream.user_keys import pseudonym
from burnish.learner.database import Database
from burnish.learner.intake import receipts
from burnish.learner.intake.consume import consume
from burnish.learner.lease import Lease
from burnish.serving.api.auth import KeyStore
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running
from tests.waiting import eventually

ADA = "ada-1815"
HERS, HIS = "ZANZIBAR-7731", "OSLO-4242"


@pytest.fixture
def start(
    serve: Callable[..., Running], settings: ServingSettings, redis_url: str, redis_client: Any
) -> Callable[..., Running]:
    def start(**more: Any) -> Running:
        update = {"redis_url": redis_url, **more}
        return serve(settings.model_copy(update=update), StubEngine("Hello there."))

    return start


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path}/experience.db")
    made.migrate()
    yield made
    made.close()


def take_in(database: Database, redis_url: str, client: redis.Redis) -> dict[str, int]:
    stream = open_stream(StreamSettings(redis_url=redis_url))
    with Lease(client, "intake", 30, database=database) as lease:
        tick = consume(database, stream, lease)
    stream.close()
    return tick.counts if tick else {}


def use(running: Running, user: str, said: str, session: str | None = None) -> str:
    """A chat in a session, a thumb, a comment and a memory of that user's."""
    answer = running.say(said, user=user, extra_body={"session_id": session or f"of-{user}"})
    for name, value in (("thumbs", "up"), ("comment", said)):
        judged = {"interaction_id": answer.id, "user": user, "name": name, "value": value}
        assert running.http("POST", "/v1/feedback", json=judged).status_code == 202
    record = {"user": user, "subject": user, "predicate": "says", "text": said}
    running.http("POST", "/v1/memory/records", json=record)
    return answer.id


def sent_on(running: Running) -> None:
    eventually(lambda: running.service.spool.waiting() == 0)


def lying(running: Running, redis_client: redis.Redis) -> bytes:
    """All that the spool's files and Redis hold."""
    folder = running.service.settings.data_dir
    files = b"".join(p.read_bytes() for p in sorted(folder.glob("spool.db*")))
    keys = list(redis_client.scan_iter(count=1000))
    dumped = [repr(_content(redis_client, key)).encode() for key in keys]
    return files + b"\n".join([*keys, *dumped])


def _content(client: Any, key: bytes) -> Any:
    match client.type(key):
        case b"hash":
            return client.hgetall(key)
        case b"set":
            return client.smembers(key)
        case b"zset":
            return client.zrange(key, 0, -1, withscores=True)
        case b"list":
            return client.lrange(key, 0, -1)
        case b"stream":
            return client.xrange(key)
        case _:
            return client.get(key)


def erase(running: Running, **body: Any) -> dict[str, Any]:
    answer = running.http("POST", "/v1/erase", json=body)
    assert answer.status_code in (200, 202), answer.text
    return answer.json()


def test_nothing_of_them_is_left_and_others_keep_theirs(
    start: Callable[..., Running],
    database: Database,
    redis_url: str,
    redis_client: redis.Redis,
) -> None:
    running = start()
    use(running, ADA, HERS)
    use(running, "bob", HIS)
    sent_on(running)
    assert take_in(database, redis_url, redis_client)["judgements"] == 4
    told = erase(running, user=ADA)
    assert (told["state"], told["removed"]["spool"]["ledger"]) == ("served", 2)
    assert told["removed"]["memory"]["sessions"] == 1
    assert told["removed"]["stream"] == {"keys": 1}

    erasures = Erasures(redis_url)
    receipts.carry_out(database, erasures, redis_client)
    receipt = running.http("GET", f"/v1/erase/{told['id']}").json()
    assert receipt["state"] == "finished", "no version has learnt from them"
    assert receipt["removed"]["database"] == {
        "interactions": 1,
        "judgements": 2,
        "completions": 1,
        "experience": 1,
        "credits": 2,
    }
    found = lying(running, redis_client)
    assert HERS.encode() not in found
    assert HIS.encode() in found
    with sqlite3.connect(database.url.removeprefix("sqlite:///")) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.close()
    stored = Path(database.url.removeprefix("sqlite:///")).read_bytes()
    assert HERS.encode() not in stored
    assert ADA.encode() not in stored
    assert HIS.encode() in stored
    erasures.close()


def test_what_still_waited_for_the_stream_goes_too(
    start: Callable[..., Running], redis_client: redis.Redis
) -> None:
    running = start()
    running.service.forwarder.stop()
    use(running, ADA, HERS)
    use(running, "bob", HIS)
    told = erase(running, user=ADA)
    assert told["removed"]["spool"] == {"outbox": 3, "ledger": 2}
    assert running.service.spool.waiting() == 3
    assert [event.user for event in running.recorded()] == ["bob"]
    assert HERS.encode() not in lying(running, redis_client)


def test_what_lies_in_the_stream_cannot_be_read_any_more(
    start: Callable[..., Running], redis_url: str, redis_client: redis.Redis
) -> None:
    running = start()
    use(running, ADA, HERS)
    use(running, "bob", HIS)
    sent_on(running)
    written = repr(_content(redis_client, f"{STREAM_PREFIX}{INTERACTIONS}".encode()))
    assert HERS not in written
    assert ADA not in written
    erase(running, user=ADA)
    stream = open_stream(StreamSettings(redis_url=redis_url))
    read = []
    for topic in (INTERACTIONS, FEEDBACK):
        for record in stream.read(topic, 0, None):
            try:
                read.append(decode(record).user)
            except Exception as error:  # noqa: BLE001 - which, is the question
                read.append(type(error).__name__)
    assert sorted(map(str, read)) == ["KeyDestroyed"] * 3 + ["bob"] * 3
    stream.close()


def test_a_dry_run_tells_what_would_go_and_changes_nothing(
    start: Callable[..., Running],
    database: Database,
    redis_url: str,
    redis_client: redis.Redis,
) -> None:
    running = start()
    use(running, ADA, HERS)
    sent_on(running)
    take_in(database, redis_url, redis_client)
    before = lying(running, redis_client)
    erasures = Erasures(redis_url)

    def learner() -> None:
        while not (asked := list(redis_client.scan_iter(match="burnish:erasure:*"))):
            time.sleep(0.01)
        id = asked[0].decode().partition("{")[2].rstrip("}")
        receipts.count(database, erasures, id)

    thread = threading.Thread(target=learner)
    refused = running.http("POST", "/v1/erase", json={"user": ADA, "dry_run": True})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "learner_unavailable")
    redis_client.set(INTAKE_KEY, time.time())
    thread.start()
    told = erase(running, user=ADA, dry_run=True)
    thread.join()
    assert (told["state"], told["dry_run"]) == ("finished", True)
    assert told["removed"]["database"]["interactions"] == 1
    assert told["removed"]["spool"] == {"ledger": 2}
    assert told["removed"]["memory"]["sessions"] == 1
    after = lying(running, redis_client)
    assert HERS.encode() in before
    assert HERS.encode() in after
    assert redis_client.zcard(ERASED_KEY) == 0
    assert redis_client.hlen(USER_KEYS) == 2
    erasures.close()


def test_one_that_was_left_halfway_is_gone_on_with(
    start: Callable[..., Running], redis_url: str, redis_client: redis.Redis
) -> None:
    running = start()
    use(running, ADA, HERS)
    erasures = Erasures(redis_url)
    left = erasures.request("local", ADA, by="a process that died here")
    eventually(lambda: (erasures.get(left.id) or left).state == "served")
    assert HERS.encode() not in lying(running, redis_client)
    erasures.close()


def test_a_spool_that_was_away_is_cleared_before_it_is_sent_on(
    start: Callable[..., Running], redis_url: str, redis_client: redis.Redis
) -> None:
    running = start()
    running.service.forwarder.stop()
    use(running, ADA, HERS)
    use(running, "bob", HIS)
    running.stop()
    redis_client.zadd(ERASED_KEY, {pseudonym("local", ADA): time.time()})
    again = start()
    eventually(lambda: redis_client.xlen(f"{STREAM_PREFIX}{FEEDBACK}") == 2)
    assert redis_client.xlen(f"{STREAM_PREFIX}{INTERACTIONS}") == 1
    folder = again.service.settings.data_dir
    assert HERS.encode() not in b"".join(p.read_bytes() for p in folder.glob("spool.db*"))


def test_who_comes_back_is_served_and_recorded_as_anybody(
    start: Callable[..., Running], database: Database, redis_url: str, redis_client: redis.Redis
) -> None:
    running = start()
    use(running, ADA, HERS)
    erase(running, user=ADA)
    use(running, ADA, "again", session="another")
    sent_on(running)
    assert take_in(database, redis_url, redis_client)["interactions"] == 1


def test_it_takes_the_scope_admin_and_the_own_tenant(
    start: Callable[..., Running], settings: ServingSettings
) -> None:
    keys = KeyStore(settings.data_dir / "keys.sqlite")
    admin, other = (keys.create(tenant, ["admin"]) for tenant in ("acme", "other"))
    chat = keys.create("acme", ["chat"])
    running = start()
    assert running.with_key(chat).http("POST", "/v1/erase", json={"user": "a"}).status_code == 403
    told = erase(running.with_key(admin), user=ADA)
    assert running.with_key(other).http("GET", f"/v1/erase/{told['id']}").status_code == 404
    assert running.with_key(admin).http("GET", f"/v1/erase/{told['id']}").status_code == 200


def test_without_redis_it_says_that_nothing_was_erased(running: Running) -> None:
    refused = running.http("POST", "/v1/erase", json={"user": ADA})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
