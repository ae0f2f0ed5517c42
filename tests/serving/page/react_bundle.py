"""React as it is on npm, as two modules that a browser can import: no build tool, and no other host."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.conftest import missing

VERSION = "19.2.0"
PACKAGES = {
    "react": (f"react@{VERSION}", "cjs/react.production.js"),
    "react-dom": (f"react-dom@{VERSION}", "cjs/react-dom.production.js"),
    "react-dom/client": (f"react-dom@{VERSION}", "cjs/react-dom-client.production.js"),
    "scheduler": ("scheduler@0.27.0", "cjs/scheduler.production.js"),
}
# CommonJS by hand: every file is a function, run once when it is first required. Both modules share the state.
LOADER = """
const files = { %s };
const loaded = globalThis.__required ??= {};
function require(name) {
  if (!loaded[name]) {
    const module = loaded[name] = { exports: {} };
    files[name](module, module.exports, require, { env: { NODE_ENV: "production" } });
  }
  return loaded[name].exports;
}
"""
EXPORTS = {
    "react": "export const { createElement, useEffect, useRef, useState } = require('react');",
    "client": "export const { createRoot } = require('react-dom/client');",
}


def react_modules() -> dict[str, str]:
    """`react` and `client`: the text of each module."""
    files = ", ".join(
        f"{name!r}: function (module, exports, require, process) {{ {_file(*where)} }}"
        for name, where in PACKAGES.items()
    )
    loader = LOADER.replace("%s", files)
    return {name: loader + exports for name, exports in EXPORTS.items()}


def _file(package: str, path: str) -> str:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "burnish" / "npm"
    folder = cache / package
    if not folder.exists():
        with tempfile.TemporaryDirectory() as scratch:
            command = ["npm", "pack", package, "--silent"]
            packed = subprocess.run(
                command, cwd=scratch, capture_output=True, text=True, timeout=300
            )
            if packed.returncode:
                missing(f"npm pack {package}: {packed.stderr}")
            (archive,) = Path(scratch).glob("*.tgz")
            shutil.unpack_archive(archive, folder, filter="data")
    return (folder / "package" / path).read_text()
