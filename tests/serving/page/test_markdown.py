"""Markdown as CommonMark and GitHub read it (the examples are of their specs' kind), and any text at all."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

READ = """async (text) => {
  const { GrowingMarkdown } = await import('/static/markdown.js');
  const root = document.createElement('div');
  new GrowingMarkdown(root).write(text);
  return root.outerHTML.slice(5, -6);
}"""


@pytest.mark.parametrize(
    ("text", "html"),
    [
        (
            "*a* __b__ ***c*** ~~d~~",
            "<p><em>a</em> <strong>b</strong> <em><strong>c</strong></em> <del>d</del></p>",
        ),
        (
            "*a **b** c* **d *e***",
            "<p><em>a <strong>b</strong> c</em> <strong>d <em>e</em></strong></p>",
        ),
        ("a * b snake_case_x **no", "<p>a * b snake_case_x **no</p>"),
        ("``a ` b`` `` ` ``", "<p><code>a ` b</code> <code>`</code></p>"),
        ("a  \nb\\\nc\nd", "<p>a<br>b<br>c\nd</p>"),
        ("one\n===\n\ntwo\n---", '<h3 class="h1">one</h3><h3 class="h2">two</h3>'),
        ("- a\n  - b\n- c\n\nd", "<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul><p>d</p>"),
        ("1. a\n\n   b\n2. c", "<ol><li><p>a</p><p>b</p></li><li><p>c</p></li></ol>"),
        ("text\n- item\nlazy", "<p>text</p><ul><li>item\nlazy</li></ul>"),
        ("text\n2. no list", "<p>text\n2. no list</p>"),
        ("- [x] done", "<ul><li>☑ done</li></ul>"),
        ("> a\nb\n\nc", "<blockquote><p>a\nb</p></blockquote><p>c</p>"),
        ("***\n\\*a\\*", "<hr><p>*a*</p>"),
        ("<b>x</b> 1 < 2", "<p>&lt;b&gt;x&lt;/b&gt; 1 &lt; 2</p>"),
    ],
)
def test_markdown_is_read_as_written(page: Page, text: str, html: str):
    assert page.evaluate(READ, text) == html


def test_no_text_is_lost_or_slow_whatever_it_is(page: Page):
    found = page.evaluate(
        """async () => {
             const { lexer } = await import('/static/markdown_reader.js');
             const bits = ['a', 'b ', ' ', '\\n', '\\n\\n', '*', '**', '_', '`', '```\\n', '- ', '1. ', '> ', '# ', '|',
               '---\\n', '[', '](u)', '![', '<b>', 'http://x.y', '\\\\', '~~', '    ', '\\t', 'é', '😀'];
             let seed = 1;
             const draw = (below) => Math.floor((seed = (seed * 48271) % 2147483647) / 2147483647 * below);
             const lost = [];
             for (let n = 0; n < 4000; n += 1) {
               const text = Array.from({ length: 1 + draw(25) }, () => bits[draw(bits.length)]).join('');
               if (lexer(text).map((token) => token.raw).join('') !== text) lost.push(text);
             }
             for (const bit of bits) if (lexer(bit.repeat(3000)).map((token) => token.raw).join('') !== bit.repeat(3000)) lost.push(bit);
             return lost;
           }"""
    )
    assert found == []
