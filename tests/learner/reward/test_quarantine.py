"""Who is in quarantine is told by pseudonym, and whom an admin lets out counts again."""

from burnish.feedback.stream.user_keys import pseudonym
from burnish.feedback.trust.policy import TrustPolicy
from burnish.feedback.trust.weighing import weigh
from burnish.learner.database import Database
from burnish.learner.reward import quarantine

from tests.feedback.judged import vote


def test_a_release_lets_out_what_was_given_until_then(sqlite: Database):
    burst = [vote("ann", f"b{n}", 1.0, n * 0.1) for n in range(40)]
    calm = [vote("ben", f"c{n}", 1.0, n * 60.0) for n in range(3)]
    weights = weigh(burst + calm)
    (one,) = quarantine.held(burst + calm, weights)
    assert (one.tenant, one.person) == ("acme", pseudonym("acme", "ann"))
    assert (one.votes, one.first, one.last) == (40, 0.0, 3.9000000000000004)
    with sqlite.write() as session:
        quarantine.release(
            session, "acme", one.person, one.key_id, until=100.0, who="eve", why="a script of ours"
        )
    with sqlite.read() as session:
        trust = quarantine.with_released(session, TrustPolicy(), burst + calm)
        assert quarantine.newest_release(session) == 100.0
    assert weigh(burst, policy=trust).quarantined == 0
    assert not quarantine.held(burst, weigh(burst, policy=trust))


def test_without_a_release_the_policy_is_as_it_was(sqlite: Database):
    policy = TrustPolicy()
    with sqlite.read() as session:
        assert quarantine.with_released(session, policy, [vote("ann", "a", 1.0)]) is policy
