"""Which logged prompts a step asks again."""

from collections import Counter
from random import Random

import pytest
from burnish.learner.reward.experience import LoggedPrompt
from burnish.learner.rules.prompt_pool import TENANT_SHARE, USER_SHARE, PromptPool

DRAWN = 20_000


def shares(prompts: list[LoggedPrompt]) -> Counter:
    """What part of many draws falls to each prompt's person."""
    owner = {prompt.token_ids: (prompt.tenant, prompt.user) for prompt in prompts}
    drawn = PromptPool(prompts).draw(Random(0), DRAWN)
    counts = Counter(owner[token_ids] for token_ids in drawn)
    return Counter({who: count / DRAWN for who, count in counts.items()})


def asked(count: int, start: int, tenant: str, user: str | None) -> list[LoggedPrompt]:
    return [LoggedPrompt((start + n,), tenant, user) for n in range(count)]


def test_whoever_asks_most_is_not_asked_again_beyond_a_share():
    many = asked(500, 0, "shop", "eve")
    others = [p for n in range(100) for p in asked(1, 1000 + n, f"t{n}", "ada")]
    found = shares(many + others)
    assert found["shop", "eve"] == pytest.approx(30 / 130, abs=0.02)
    assert found["t1", "ada"] == pytest.approx(1 / 130, abs=0.004)


def test_one_name_at_two_tenants_is_two_people():
    found = shares(asked(50, 0, "a", "ada") + asked(50, 100, "b", "ada"))
    assert found["a", "ada"] == pytest.approx(0.5, abs=0.02)


def test_the_nameless_are_each_their_own_and_share_their_tenants_part():
    found = shares(asked(900, 0, "shop", None) + asked(100, 1000, "bank", None))
    assert found["shop", None] == pytest.approx(500 / 600, abs=0.02)


def test_alone_one_may_have_all():
    assert shares(asked(3, 0, "shop", "ada"))["shop", "ada"] == 1
    assert 0 < USER_SHARE < TENANT_SHARE < 1
