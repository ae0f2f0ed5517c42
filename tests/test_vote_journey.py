"""A vote followed on the page through every part: thumb, update, gate, canary, served.

`burnish up` as anyone would start it, with the shipped model and everything real: browser, spool, stream, Redis, worker,
MLflow. An update of two steps: this is about what the page tells of a vote, not about what can be learnt from it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from burnish.ops.bench.lib.vote_journey import (
    CANARY,
    STAGES,
    ask_again,
    ask_and_judge,
    follow,
    others_vote,
    update_now,
)
from playwright.sync_api import Browser, expect

from tests.service import Service
from tests.serving.page.conftest import browser as browser
from tests.test_loop import IN_A_HURRY

# Updates are far apart, so that the page's own request is what begins one, and a version comes by way of a canary.
QUICK = {
    **IN_A_HURRY,
    "BURNISH_UPDATE_EVERY": "86400",
    "BURNISH_UPDATE_JOB": "worker",
    "BURNISH_MAX_ANSWER_TOKENS": "24",
    "BURNISH_MIN_FEEDBACK": "3",
    "BURNISH_MIN_EXPERIENCE": "3",
    "BURNISH_CANARY_EVERY": "1",
}
PATIENCE_S = 600.0


@pytest.mark.timeout(1200)
def test_a_vote_is_followed_from_the_thumb_to_the_version_that_learnt_from_it(
    browser: Browser, tmp_path: Path
):
    settings = tmp_path / "canary.yaml"
    settings.write_text(CANARY)
    quick = {**QUICK, "BURNISH_CANARY_SETTINGS": str(settings)}
    with Service(tmp_path / "data", None, **quick) as service:
        page = browser.new_page()
        since = ask_and_judge(page, service.url, ["down", "up", "down"], PATIENCE_S, tokens=24)
        line = page.locator(".fate").first
        expect(line).to_contain_text("Next: the next update.", timeout=1000 * PATIENCE_S)
        assert [stage.name for stage in follow(page, since, "joined", PATIENCE_S)] == [
            "saved",
            "joined",
        ], "nothing trains before somebody asks for it"

        update_now(page, 3)
        tried = follow(page, since, "canary", PATIENCE_S)
        assert [stage.name for stage in tried] == list(STAGES)[:-1]
        expect(line).to_contain_text("default@2 is tried on a share of people")

        others_vote(service.url)
        served = follow(page, since, "served", PATIENCE_S)[-1]
        assert served.says == "Served in @2"
        expect(line).to_contain_text("Tried")
        expect(line).to_contain_text("default@2, which learnt from it, began to serve")

        # The tour asks the first question again, and the vote stands behind the version that it led to.
        asked = page.locator(".asked p").first.inner_text()
        compared = ask_again(page)
        assert (compared.prompt, compared.versions) == (asked, ("default@1", "default@2"))
        line.get_by_role("link").click()
        expect(page.locator(".ids li")).to_have_count(3)
        page.close()
