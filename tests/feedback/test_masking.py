"""What is written for people holds no password, whatever the error said."""

from __future__ import annotations

import io
import logging
import subprocess
import sys

import pytest
from burnish.feedback.masking import mask_logs, masked
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://:hunter2@one:6379/0", "redis://:***@one:6379/0"),
        ("at postgresql+psycopg://ann:hunter2@one/db: no", "at postgresql+psycopg://ann:***@one/db: no"),
        ("['https://ann:p@ss@one/x']", "['https://ann:***@one/x']"),
        ("SASL_SSL://ann:a/b:c@one:1,two:2", "SASL_SSL://ann:***@one:1,two:2"),
        ("http://one:8080/v1", "http://one:8080/v1"),
        ("http://one:8080/v1 ann@example.com", "http://one:8080/v1 ann@example.com"),
        ("key bk-0123456" + 33 * "a" + ".", "key bk-0123456***."),
        ("X-API-Key: 'tml-aB3_dE5-fG7hI9'", "X-API-Key: 'tml-***'"),
        ("an html-fragment of <tml-x>", "an html-fragment of <tml-x>"),
    ],
)  # fmt: skip
def test_passwords_and_keys_are_masked(text: str, expected: str) -> None:
    assert masked(text) == expected
    assert masked(expected) == expected


@given(st.text(st.characters(exclude_characters="'\"", exclude_categories=("Z", "C")), min_size=3))
def test_no_password_survives(password: str) -> None:
    assert password not in masked(f"a redis://user:{password}@host.example:6379/0 b") or (
        password in "a redis://user:***@host.example:6379/0 b"
    )


def test_logs_are_masked_with_their_tracebacks() -> None:
    out, logger = io.StringIO(), logging.Logger("test")
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("seen %(message)s"))
    logger.addHandler(handler)
    for _ in range(2):
        mask_logs(logger)
    try:
        raise ConnectionError("no redis://:hunter2@one")
    except ConnectionError:
        logger.exception("lost %s", "http://ann:hunter2@two")
    assert "seen lost http://ann:***@two" in out.getvalue()
    assert "hunter2" not in out.getvalue()


def test_so_is_the_traceback_that_ends_a_process() -> None:
    code = (
        "from burnish.feedback.masking import mask_logs; mask_logs();"
        " password = 'hunter' + '2'; raise OSError('http://ann:' + password + '@one')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "http://ann:***@one" in done.stderr
    assert "hunter2" not in done.stderr
