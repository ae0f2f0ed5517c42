"""What a model writes is only ever text: no markup runs, nothing is loaded, nothing leaves."""

import httpx2 as httpx
import pytest
from burnish.serving.app import PAGE
from playwright.sync_api import Browser, Error, Page, expect

from tests.serving.conftest import Running
from tests.serving.page.conftest import StubEngine, ask
from tests.serving.page.hostile import HOSTILE
from tests.serving.page.made_up import fulfilled, policy, ticks, version, vote

# What must not be among the elements that texts became, wherever they show.
UNSAFE = """(selector) => [...document.querySelectorAll(selector)].flatMap(
  (node) => [node, ...(node.shadowRoot?.querySelectorAll('*') ?? [])]
).flatMap((node) => [
  ...(/^(script|img|iframe|style|base|meta|object|embed|link|video|audio|frame|template)$/i.test(node.localName)
    ? [node.localName] : []),
  ...[...node.attributes].filter((a) => a.name.startsWith('on') || a.name === 'style').map((a) => a.name),
  ...(typeof node.href === 'string' && node.href && !/^(https?|mailto):/.test(node.href) ? [node.href] : []),
])"""


def test_there_are_enough_vectors():
    assert len(set(HOSTILE)) >= 60


def test_hostile_answers_stay_text(page: Page, engine: StubEngine):
    grown = """async (texts) => {
      const { GrowingMarkdown } = await import('/static/markdown.js');
      for (const text of texts) {
        const root = document.createElement('div');
        root.className = 'grown';
        document.body.append(root);
        const markdown = new GrowingMarkdown(root);
        for (let at = 0; at < text.length; at += 7) markdown.write(text.slice(at, at + 7));
      }
    }"""
    page.evaluate(grown, HOSTILE)
    assert page.evaluate(UNSAFE, ".grown *") == []
    engine.pace_s = 0
    engine.reply = lambda _: "\n\n".join(text for text in HOSTILE if len(text) < 200)
    ask(page)
    page.get_by_role("button", name="Copy", exact=True).hover()
    assert page.evaluate(UNSAFE, ".text *") == []
    page.wait_for_timeout(200)
    assert page.evaluate("window.hit") is None
    assert page.locator("a[href*='v1/models']").count() == 0


def test_hostile_questions_titles_and_comments_stay_text(page: Page):
    short = [text for text in HOSTILE if len(text) < 120]
    now = 1.0
    talks = [
        {
            "id": f"talk-{n}",
            "title": text,
            "at": now,
            "settings": {"system": text},
            "turns": turns(text, f"chatcmpl-{n}"),
        }
        for n, text in enumerate(short)
    ]
    keep = """(talks) => {
      for (const talk of talks) localStorage.setItem('burnish.conversation.' + talk.id, JSON.stringify(talk));
      localStorage.setItem('burnish.conversations', JSON.stringify(talks.map(({ id, title, at }) => ({ id, title, at }))));
    }"""
    page.evaluate(keep, talks)
    page.evaluate("location.hash = ''")
    page.reload()
    expect(page.locator(".talks li")).to_have_count(len(short))
    for n, text in enumerate(short):
        page.locator(".talks a").nth(n).click()
        expect(page.locator(".asked > p")).to_have_text(text, use_inner_text=False)
        page.get_by_role("button", name="Say more").click()
        expect(page.get_by_label("A note")).to_have_value(text)
    assert page.evaluate(UNSAFE, "#view *:not(a[href^='#'], a[href^='#'] *)") == []
    assert page.evaluate("window.hit") is None


def turns(text: str, answer_id: str) -> list[dict]:
    held = {"comment": {"id": "c", "value": text, "metadata": {}}}
    answer = {"text": text, "id": answer_id, "version": text, "done": True, "held": held}
    calls = [{"name": text, "arguments": text}]
    answer |= {"thinking": text, "calls": calls, "error": text}
    return [{"role": "user", "text": text}, {"role": "assistant", "answers": [answer], "shown": 0}]


def test_hostile_versions_reasons_and_reports_stay_text(page: Page):
    shown_tags = 0
    for n in (0, 7, 30, 55):
        text = HOSTILE[n]
        page.unroute_all()
        page.route("**/v1/policies/default?*", fulfilled(policy(text, *HOSTILE)))
        page.route(
            "**/v1/policies/default/versions/*",
            fulfilled(version(text, *HOSTILE)),
        )
        page.route("**/v1/learner?*", fulfilled(ticks(text)))
        page.route("**/v1/feedback/*", fulfilled(vote(text)))
        for path, shown in (
            ("learning", "ol.moves"),
            ("learning/version/2", ".checks"),
            ("learning/vote/x", ".fate"),
        ):
            page.evaluate("(path) => { location.hash = '#/' + path; }", path)
            expect(page.locator(shown).first).to_be_visible()
            assert page.evaluate(UNSAFE, "#view *:not(a[href^='#'])") == [], (path, text)
            shown_tags += page.locator(".row > .tag").count()
    assert shown_tags >= 4 * len(HOSTILE)
    assert page.evaluate("window.hit") is None


def test_hostile_questions_stay_text(page: Page):
    ask(page, HOSTILE[1])
    expect(page.locator(".asked > p")).to_have_text(HOSTILE[1])
    assert page.locator(".asked > p *").count() == 0


def test_markdown_becomes_what_it_means(page: Page, engine: StubEngine):
    engine.reply = lambda _: (
        "# Title\n\nA &amp; B, *a* **b** ~~c~~ `x &lt; y`\n\n3. three\n4. four\n\n"
        "| n | v |\n|---|--:|\n| a | 1 |\n\n[site](https://example.org/a?b=1&c=2)\n\n"
        "![a chart](https://example.org/c.png)\n\n<b>raw</b> text\n\n```\ncode <b>\n```\n\nend"
    )
    ask(page)
    text = page.locator(".answered .text")
    expect(text.locator("h3")).to_have_text("Title")
    expect(text.locator("p").first).to_have_text("A & B, a b c x &lt; y")
    expect(text.locator("ol")).to_have_attribute("start", "3")
    expect(text.locator("td.right")).to_have_text("1")
    links = text.locator("a")
    expect(links).to_have_text(["site", "image: a chart"])
    expect(links.first).to_have_attribute("href", "https://example.org/a?b=1&c=2")
    expect(links.first).to_have_attribute("rel", "noopener noreferrer")
    expect(text.locator("pre")).to_have_text("code <b>")
    expect(text).to_contain_text("<b>raw</b> text")


def test_streaming_makes_the_same_nodes_as_writing_at_once(page: Page):
    source = (
        "# T\n\npara one\nstill one\n\n- a\n- b\n\n  more b\n\n1. x\n2. y\n\n```py\ncode\n\n# more\n```\n"
        "\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> quote\n> on\n\n**bold** end\r\nlast"
    )
    same = page.evaluate(
        """async (source) => {
             const { GrowingMarkdown } = await import('/static/markdown.js');
             const make = (pieces) => {
               const root = document.createElement('div');
               const grown = new GrowingMarkdown(root);
               for (const piece of pieces) grown.write(piece);
               return root.cloneNode(true);
             };
             return make([...source]).isEqualNode(make([source]));
           }""",
        source,
    )
    assert same


POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
}
REFUSED = """async (attempt) => {
  const said = new Promise((told) =>
    addEventListener('securitypolicyviolation', (event) => told(event.effectiveDirective), { once: true }));
  const tries = {
    send: () => fetch('http://198.51.100.1/').catch(() => {}),
    load: () => { new Image().src = 'http://198.51.100.1/leak.png'; },
    script: () => {
      const made = document.createElement('script');
      made.textContent = 'window.hit = 1';
      document.body.append(made);
    },
    style: () => document.body.setAttribute('style', 'color: red'),
  };
  try { tries[attempt](); } catch { /* Trusted Types throw */ }
  return Promise.race([said, new Promise((told) => setTimeout(told, 20_000, 'nothing refused it'))]);
}"""


def test_the_policy_forbids_everything_else(server: Running, browser: Browser):
    page = browser.new_page()
    answer = page.goto(server.url)
    assert answer is not None
    assert set(answer.headers["content-security-policy"].split("; ")) == POLICY
    with pytest.raises(Error, match="TrustedHTML"):
        page.evaluate("document.body.innerHTML = '<b>x</b>'")
    for attempt, rule in {
        "send": "connect-src",
        "load": "img-src",
        "script": "require-trusted-types-for",
        "style": "style-src-attr",
    }.items():
        assert page.evaluate(REFUSED, attempt) == rule, attempt
    assert page.evaluate("window.hit") is None
    page.close()


def test_files_have_their_types_and_are_small(server: Running):
    size = 0
    for file in sorted(PAGE.rglob("*.*")):
        name = file.relative_to(PAGE).as_posix()
        answer = httpx.get(f"{server.url}/static/{name}")
        assert answer.status_code == 200
        kind = {".js": "text/javascript", ".css": "text/css"}.get(file.suffix, "text/")
        assert answer.headers["content-type"].startswith(kind)
        size += len(answer.content)
    assert size < 200_000
    assert httpx.get(f"{server.url}/static/..%2Fapp.py").status_code == 404


def test_a_page_names_its_modules_so_that_they_come_at_once(server: Running):
    links = httpx.get(server.url).headers["link"].split(", ")
    named = {link.removeprefix("</static/").removesuffix(">; rel=modulepreload") for link in links}
    assert {"app.js", "api.js", "states.js"} <= named  # states.js is a module of router.js
    assert "chat.js" not in named, "a view is fetched when it shows"
    assert all(httpx.get(f"{server.url}/static/{name}").status_code == 200 for name in named)
    assert "link" not in httpx.get(f"{server.url}/static/app.js").headers


def test_scripts_are_sent_without_comments_and_whole(server: Running):
    for file in PAGE.glob("*.js"):
        source = file.read_text()
        ticks = [
            line.count("`") % 2 for line in source.splitlines() if not line.strip().startswith("//")
        ]
        assert not any(ticks), (
            f"{file.name}: a text of several lines may hold what looks like a comment"
        )
        lines = httpx.get(f"{server.url}/static/{file.name}").text.splitlines()
        kept = [line.strip() for line in source.splitlines()]
        assert lines == [line for line in kept if line and not line.startswith("//")]
