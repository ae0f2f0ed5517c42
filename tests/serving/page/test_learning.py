"""The learning view on a history that the learner left: figures, marks, what can be done, and by a keyboard."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest
import redis
from burnish.feedback import fates
from burnish.feedback.contract import REPORT_PREFIX, TICKS_KEY
from burnish.feedback.fates import Fate
from burnish.learner.report.figures import Advice, Comparison, Rate, Report, VersionFigures
from burnish.serving.app import create_app
from burnish.serving.engine import StubEngine
from burnish.serving.registry import StubRegistry
from burnish.serving.settings import ServingSettings
from playwright.sync_api import Page, expect

from tests.serving.conftest import Running
from tests.serving.page.conftest import ask, running_app

IDLE = "3 new judgements since the last update, 8 make one worth it"


@pytest.fixture(scope="module")
def started(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service beside a Redis, with versions 2 and 3 promoted and rolled back: 1, 2, 3, 2."""
    folder = tmp_path_factory.mktemp("learning")
    settings = ServingSettings(data_dir=folder / "data", redis_url=redis_url, poll_s=0.2)
    registry = StubRegistry()
    app = create_app(settings, StubEngine("Hello there."), registry)
    with running_app(app) as running:
        registry._audit = running.service.audit
        for weights in (b"two", b"three"):
            registry.add(weights)
        registry.promote("default", 2, who="learner", why="it passed the gate")
        registry.promote("default", 3, who="learner", why="it passed the gate")
        registry.rollback("default", who="ann", why="answers became curt")
        yield running


@pytest.fixture
def told(redis_url: str) -> redis.Redis:
    """What the learner left: a report and a tick that trained nothing."""
    client = redis.Redis.from_url(redis_url)
    client.delete(TICKS_KEY)
    tick = {"kind": "update", "policy": "default", "did": "trained nothing", "why_not": IDLE}
    client.lpush(
        TICKS_KEY, json.dumps({**tick, "id": "t", "at": time.time(), "seconds": 0.1, "counts": {}})
    )
    client.set(REPORT_PREFIX + "default", report().model_dump_json())
    return client


def report() -> Report:
    first, now, few = Rate.of(20, 50), Rate.of(40, 50), Rate.of(2, 3)
    assert first is not None
    assert now is not None
    low, high = now.minus(first)
    return Report(
        policy="default",
        at=time.time(),
        state="s",
        votes=103,
        people=21,
        verdict="learning",
        versions=[
            VersionFigures(version=1, liked=first, enough=True, people=20),
            VersionFigures(version=2, liked=now, enough=True, people=20),
            VersionFigures(version=3, liked=few, enough=False, people=3),
        ],
        comparison=Comparison(
            first=1, latest=[2], before=first, now=now, low=low, high=high, outcome="more"
        ),
        advice=[Advice(name="people", says="Votes of more people would help.")],
    )


@pytest.fixture
def view(open_page: Callable[..., Page], told: redis.Redis) -> Page:
    page = open_page(path="/#/learning")
    expect(page.get_by_role("heading", name="Versions over time")).to_be_visible()
    return page


def test_it_is_said_in_plain_words(view: Page):
    expect(view.locator(".verdict")).to_contain_text("It is learning")
    expect(view.locator(".lead")).to_contain_text("From 103 votes by 21 people on 3 versions")
    expect(view.locator(".why")).to_contain_text(IDLE)
    expect(view.locator(".why")).to_contain_text("Votes of more people would help.")


def test_a_table_stands_beside_the_chart_and_few_votes_are_called_so(view: Page):
    expect(view.locator(".liked svg[role=img]")).to_have_count(1)
    rows = view.locator(".liked tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("too few votes")
    expect(rows.nth(1)).to_contain_text("80%")
    assert view.locator(".liked circle").count() == 2, "those with too few are not drawn"


def test_there_and_back_is_a_mark_each(view: Page):
    marks = view.locator("ol.moves li strong")
    assert marks.all_inner_texts()[:3] == ["Rolled back", "Promoted", "Promoted"]
    expect(view.locator("ol.moves li").first).to_contain_text("by ann")
    expect(view.locator("ol.moves li").first).to_contain_text("answers became curt")


def test_a_version_is_promoted_by_keyboard_alone(view: Page, started: Running):
    def tab_to(name: str) -> None:
        for _ in range(80):
            view.keyboard.press("Tab")
            active = (
                "document.activeElement.matches('a, button') && document.activeElement.textContent"
            )
            if name in (view.evaluate(active) or ""):
                return
        pytest.fail(f"Tab does not reach {name}")

    tab_to("@3")
    view.keyboard.press("Enter")
    expect(view.get_by_role("heading", level=1)).to_have_text("default@3")
    tab_to("Promote default@3")
    view.keyboard.press("Enter")
    dialog = view.get_by_role("dialog")
    expect(dialog).to_contain_text("Promote default@3?")
    dialog.get_by_label("Why").fill("tried it")
    view.keyboard.press("Enter")
    expect(view.get_by_role("status")).to_have_text("default@3 serves now.")
    assert started.http("GET", "/v1/policies/default").json()["champion"] == 3
    started.http("POST", "/v1/policies/default/promote", json={"version": 2})


def test_promotion_is_paused_after_a_question(view: Page, started: Running):
    def paused() -> object:
        return started.http("GET", "/v1/policies/default").json()["paused"]

    view.get_by_role("button", name="Pause").click()
    view.keyboard.press("Escape")
    assert paused() is None, "asked first"
    view.get_by_role("button", name="Pause").click()
    view.get_by_role("dialog").get_by_label("Why").fill("a fair is on")
    view.keyboard.press("Enter")
    expect(view.locator(".controls")).to_contain_text("a fair is on")
    view.get_by_role("button", name="Resume").click()
    view.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(view.get_by_role("button", name="Pause")).to_be_visible()
    assert paused() is None


def test_what_happens_shows_by_itself(view: Page, told: redis.Redis):
    tick = {"kind": "update", "policy": "default", "did": "trained nothing", "why_not": "too tired"}
    told.lpush(
        TICKS_KEY, json.dumps({**tick, "id": "u", "at": time.time(), "seconds": 0, "counts": {}})
    )
    expect(view.locator(".why")).to_contain_text("Too tired.")


def test_base_and_champion_answer_the_same_prompt(view: Page, started: Running):
    started.engine.reply = lambda r: (
        "The plain sum is 43." if r.adapter is None else "The best answer is 43."
    )
    view.get_by_role("button", name="Compare").click()
    expect(view.locator(".changes del")).to_have_text(
        "taken away: plain sum ", use_inner_text=False
    )
    expect(view.locator(".changes ins")).to_have_text("new: best answer ", use_inner_text=False)
    started.engine.reply = "Hello there."


def test_a_vote_shows_how_far_it_has_come(
    open_page: Callable[..., Page], told: redis.Redis, started: Running
):
    page = open_page()
    ask(page)
    with page.expect_response("**/v1/feedback") as posted:
        page.get_by_role("button", name="Good answer").click()
    vote = posted.value.json()["id"]
    line = page.locator(".fate")
    expect(line.locator("li.done")).to_have_count(1)
    found = started.service.spool.get("local", vote)
    assert found is not None
    now = time.time()
    story = Fate(policy="default", joined_at=now, weighed_at=now, weight=0.4, less="cap")
    fates.tell(told, {found.event_id: story})
    told.lpush(
        TICKS_KEY,
        json.dumps({"kind": "intake", "policy": "*", "did": "took in", "id": "i", "why_not": None}),
    )
    expect(line.locator("li.done")).to_have_count(3)
    expect(line).to_contain_text("Counts 0.40 of a vote")
    used = Fate(policy="default", update="u", version=2, passed=True, used_at=now)
    fates.tell(told, {found.event_id: used})
    told.lpush(
        TICKS_KEY,
        json.dumps(
            {"kind": "intake", "policy": "*", "did": "took in 1", "id": "j", "why_not": None}
        ),
    )
    expect(line.locator("li.done")).to_have_count(6)
    expect(line).to_contain_text("Passed the gate")
    expect(line).to_contain_text("default@2, which learnt from it, began to serve")


def test_without_a_history_it_says_what_to_do(open_page: Callable[..., Page], redis_url: str):
    client = redis.Redis.from_url(redis_url)
    client.delete(REPORT_PREFIX + "default", TICKS_KEY)
    page = open_page(path="/#/learning")
    expect(page.locator(".lead")).to_contain_text("There is no report yet")
    expect(page.locator(".liked")).to_contain_text("No votes yet")
    expect(page.locator(".why")).to_contain_text("The learner has not run yet")


def test_a_key_without_admin_is_told_so(view: Page):
    error = {"error": {"message": "This key lacks the scope admin.", "code": "forbidden"}}
    view.route("**/rollback", lambda route: route.fulfill(status=403, json=error))
    view.get_by_role("button", name="Roll back").click()
    view.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(view.get_by_role("status")).to_have_text("Your key lacks the scope admin.")


def test_a_lost_server_is_asked_again_by_itself(open_page: Callable[..., Page], told: redis.Redis):
    page = open_page()
    page.route("**/v1/**", lambda route: route.abort())
    page.get_by_role("link", name="Learning").click()
    expect(page.locator(".state.bad")).to_contain_text("The server cannot be reached")
    page.unroute("**/v1/**")
    expect(page.locator(".verdict")).to_contain_text("It is learning")
