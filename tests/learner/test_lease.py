import threading
from itertools import pairwise

import pytest
import redis
from burnish.feedback.contract import LEASE_PREFIX
from burnish.learner.database import Database
from burnish.learner.lease import Lease, LeaseHeld, LeaseLost

from tests.waiting import eventually


def lifetime(client: redis.Redis) -> int:
    """Milliseconds until the lease runs out."""
    return client.pttl(LEASE_PREFIX + "intake")  # type: ignore[return-value]


def lost(lease: Lease) -> bool:
    try:
        lease.check()
    except LeaseLost:
        return True
    return False


def test_one_holder_at_a_time(sqlite: Database, lease_on):
    with lease_on(sqlite), pytest.raises(LeaseHeld), lease_on(sqlite):
        pass
    with lease_on(sqlite):
        pass


def test_a_database_that_fails_leaves_the_lease_free(
    sqlite: Database, lease_on, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "read", lambda: (_ for _ in ()).throw(OSError("away")))
        with pytest.raises(OSError, match="away"), lease_on(sqlite):
            pass
    with lease_on(sqlite):
        pass


def test_names_do_not_disturb_each_other(sqlite: Database, lease_on):
    with lease_on(sqlite, "intake"), lease_on(sqlite, "update:default"):
        pass


def test_every_holder_gets_a_larger_token(sqlite: Database, lease_on):
    tokens = []
    for _ in range(3):
        with lease_on(sqlite) as lease:
            tokens.append(lease.token)
    assert tokens == sorted(set(tokens))


def test_a_living_holder_keeps_it_beyond_its_time(sqlite: Database, lease_on, redis_client):
    with lease_on(sqlite, seconds=0.3) as lease:
        seen = [lifetime(redis_client)]
        while sum(later > earlier for earlier, later in pairwise(seen)) < 4:  # renewals
            seen.append(lifetime(redis_client))
        lease.check()
        with pytest.raises(LeaseHeld), lease_on(sqlite):
            pass


def test_who_held_on_too_long_is_told_and_cannot_write(sqlite: Database, lease_on, redis_client):
    with lease_on(sqlite, seconds=0.3) as slow:
        redis_client.delete(LEASE_PREFIX + "intake")  # as if it had slept through its time
        with lease_on(sqlite) as quick, sqlite.write() as session:
            quick.fence(session)
        with pytest.raises(LeaseLost, match="another process took over"), sqlite.write() as session:
            slow.fence(session)
        eventually(lambda: lost(slow))


@pytest.mark.parametrize(
    "error", [redis.TimeoutError("slow"), redis.BusyLoadingError("loading"), redis.ResponseError()]
)
def test_renewing_goes_on_when_redis_fails_for_a_moment(
    sqlite: Database, lease_on, redis_client, monkeypatch, error: redis.RedisError
):
    failed = threading.Event()
    renew = redis_client.eval

    def fail_once(*arguments):
        if not failed.is_set():
            failed.set()
            raise error
        return renew(*arguments)

    with lease_on(sqlite, seconds=0.6) as lease:
        monkeypatch.setattr(redis_client, "eval", fail_once)
        assert failed.wait(5)
        before = lifetime(redis_client)
        eventually(lambda: lifetime(redis_client) > before)
        lease.check()


def test_leaving_does_not_free_what_another_holds_by_now(sqlite: Database, lease_on, redis_client):
    with lease_on(sqlite, seconds=30.0):
        redis_client.delete(LEASE_PREFIX + "intake")
        other: Lease = lease_on(sqlite)
        other.__enter__()
    with pytest.raises(LeaseHeld), lease_on(sqlite):
        pass
    other.__exit__(None, None, None)


def test_tokens_go_on_growing_when_redis_forgot_them(sqlite: Database, lease_on, redis_client):
    for _ in range(5):
        with lease_on(sqlite) as lease, sqlite.write() as session:
            lease.fence(session)
    redis_client.flushall()
    with lease_on(sqlite) as lease, sqlite.write() as session:
        lease.fence(session)
    assert lease.token == 6
