"""The page's files as they are sent: scripts and style sheets without comments and indentation, a sixth smaller; and
which other modules a browser may fetch meanwhile.

They lie readable beside this; nothing is built. A line that begins with `//` is a comment in every script of ours,
since no text of several lines is in them but style sheets. Left out: renaming.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

_IMPORT = re.compile(r'^import [^"]*"\./([\w-]+\.js)";$', re.MULTILINE)
_SCRIPT = re.compile(r'<script type="module" src="/static/([\w-]+\.js)">')
_CSS_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_CSS_SPACE = re.compile(r"\s*([{};])\s*|(?<=[:,])\s+")


def content_of(file: Path) -> bytes:
    """What is sent of a file, read anew when it has changed."""
    return _content(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=128)
def _content(file: Path, changed: int) -> bytes:
    content = file.read_bytes()
    if file.suffix not in (".js", ".css"):
        return content
    text = content.decode()
    if file.suffix == ".css":
        text = _CSS_SPACE.sub(lambda found: found[1] or "", _CSS_COMMENT.sub("", text))
        text = text.replace(";}", "}")
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//")).encode()


def modules_of(file: Path) -> list[str]:
    """Names of all modules that a page needs, those of its modules included, so that they are fetched at once and not
    one after another as each is read. Views, which are imported when they show, are not among them."""
    found: dict[str, None] = {}
    waiting = [file]
    while waiting:
        one = waiting.pop()
        for name in _named(one, one.stat().st_mtime_ns):
            if name not in found and (module := file.with_name(name)).is_file():
                found[name] = None
                waiting.append(module)
    return list(found)


@lru_cache(maxsize=128)
def _named(file: Path, changed: int) -> list[str]:
    pattern = {".js": _IMPORT, ".html": _SCRIPT}.get(file.suffix)
    return pattern.findall(file.read_text()) if pattern else []
