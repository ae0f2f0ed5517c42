"""An address in the settings can be read, or is refused without repeating its password."""

from __future__ import annotations

import pytest
from burnish.feedback.settings import StreamSettings, readable_url
from pydantic import ValidationError


@pytest.mark.parametrize(
    "url",
    ["redis://:p%2Fss@one:6379/0", "sqlite:////data/a@b.db", "http://one", "./mlruns", "rediss://one"],
)  # fmt: skip
def test_addresses_are_taken_as_they_are(url: str) -> None:
    assert readable_url(url) == url


@pytest.mark.parametrize("password", ["hunter2/x", "hunter2#x", "hunter2?x", "12/x"])
def test_a_password_that_is_not_encoded_is_refused_unrepeated(password: str) -> None:
    with pytest.raises(ValidationError, match="percent-encoded") as caught:
        StreamSettings(redis_url=f"redis://:{password}@one:6379/0")
    assert password.partition("/")[0].partition("#")[0].partition("?")[0] not in str(caught.value)
