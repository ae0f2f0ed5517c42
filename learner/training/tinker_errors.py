"""Errors of a training service as one line each, which names the setting to look at.

The SDK retries by itself, for minutes, what may pass: no connection, 408, 409, 429, 5xx. What arrives
here has not passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from burnish.feedback.masking import masked
from burnish.learner.database import LearnerError

if TYPE_CHECKING:
    from tinker import APIStatusError

LONGEST_DETAIL = 300  # characters of what a service said


class TrainingServiceError(LearnerError):
    """A training service did not do what was asked; the message is one line."""


@contextmanager
def explained(doing: str, url: str) -> Iterator[None]:
    """Raise errors of the Tinker SDK as TrainingServiceError."""
    from tinker import TinkerError
    from tinker.lib.retryable_exception import RetryableException

    try:
        yield
    # ValueError: the service refused, with its answer as the cause. RuntimeError and AssertionError: it
    # answered as other releases of the API do.
    except (
        TinkerError,
        RetryableException,
        TimeoutError,
        ValueError,
        RuntimeError,
        AssertionError,
    ) as error:
        raise TrainingServiceError(_explanation(error, doing, masked(url))) from error


def one_line(said: object) -> str:
    """What an error says, without line breaks and passwords."""
    line = " ".join(str(said).split()) or type(said).__name__
    return masked(line if len(line) <= LONGEST_DETAIL else f"{line[:LONGEST_DETAIL]}...")


def _explanation(error: BaseException, doing: str, url: str) -> str:
    from tinker import APIConnectionError, APIStatusError
    from tinker.lib.retryable_exception import RetryableException

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, (APIConnectionError, APIStatusError)):
        cause = cause.__cause__
    if isinstance(cause, APIStatusError):
        return _of_status(cause.status_code, doing, _told(cause))
    if isinstance(cause, APIConnectionError):
        return f"BURNISH_TINKER_URL: {url} does not answer; {doing} failed: {one_line(cause)}"
    if isinstance(error, RetryableException):
        return _of_status(410, doing, one_line(error))
    if "api_key" in str(error):
        return f"BURNISH_TINKER_KEY: {one_line(error)}"
    return f"Tinker: {doing} failed: {one_line(error)}"


def _told(error: APIStatusError) -> str:
    """The service's own words, where it has a field for them."""
    body = error.body if isinstance(error.body, dict) else {}
    words = [body[name] for name in ("detail", "message", "error") if body.get(name)]
    return one_line(words[0] if words else error)


def _of_status(status: int, doing: str, said: str) -> str:
    if status == 401:
        return f"BURNISH_TINKER_KEY: Tinker refuses the key; {doing} failed: {said}"
    if status == 402:
        return f"BURNISH_TINKER_KEY: Tinker has not been paid for; {doing} failed: {said}"
    if status == 403:
        return f"BURNISH_TINKER_KEY: this key may not do that; {doing} failed: {said}"
    if status in (404, 410):
        return f"Tinker no longer has what was asked for; {doing} failed: {said}"
    if status == 429:
        return (
            f"Tinker still limits the requests of BURNISH_TINKER_KEY after all retries (with"
            f" BURNISH_UPDATE_EVERY updates are rarer); {doing} failed: {said}"
        )
    return f"Tinker answers {status}; {doing} failed: {said}"
