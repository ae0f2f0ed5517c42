"""Passwords stay out of what people read: logs, errors, status.

A secret of ours is the password of a URL in the settings, or an API key, one that we give or that of
the training service: whatever is logged or printed goes through `masked`. Left out: secrets in other
forms, which no code of ours formats.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from types import TracebackType

# user:password@ behind ://, to the last @ of the word: passwords are not always encoded.
_URL_PASSWORD = re.compile(r"(://[^\s:@/'\"]*:)[^\s'\"]+(?=@)")
_API_KEY = re.compile(r"\b(bk-[0-9a-f]{7})[0-9a-f]{33}\b")
_TINKER_KEY = re.compile(r"\b(tml-)[\w.~+/=-]{8,}")  # how keys of that service begin


def masked(text: str) -> str:
    """`text` with *** for the passwords of its URLs, and for the end of API keys."""
    for secret in (_URL_PASSWORD, _API_KEY, _TINKER_KEY):
        text = secret.sub(r"\1***", text)
    return text


class MaskedFormatter(logging.Formatter):
    """What another formatter makes of a record, its traceback too, masked."""

    def __init__(self, inner: logging.Formatter | None):
        super().__init__()
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return masked(self._inner.format(record))


def mask_logs(logger: logging.Logger | None = None) -> None:
    """From now on the logger's handlers (default: the root's) write masked lines; and so does the
    interpreter, about the exception that ends the process."""
    for handler in (logger or logging.getLogger()).handlers:
        if not isinstance(handler.formatter, MaskedFormatter):
            handler.setFormatter(MaskedFormatter(handler.formatter))
    sys.excepthook = _print_masked


def _print_masked(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    sys.stderr.write(masked("".join(traceback.format_exception(kind, error, trace))))
