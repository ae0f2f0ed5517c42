"""Requests drawn by schemathesis from the API's own description, and from near beside it.

An answer is wrong if it is a server's error (but a 503 that says when to come again), shows a stack
trace, an error of another shape than OpenAI's and Anthropic's, or a status that the description does not tell of.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

TIMEOUT_S = 60.0
GENERATED = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/messages",
    "/v1/responses",
)  # a long answer takes as long as its tokens do


@dataclass
class Drawn:
    """What the requests were answered with."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0  # of those that generate nothing
    slowest: str = ""

    @property
    def requests(self) -> int:
        return self.statuses.total()


def operations(told: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of everything that an OpenAPI document tells of."""
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def fuzz(url: str, told: dict[str, Any], calls: int, *, derandomize: bool = False) -> Drawn:
    """Send `calls` requests per operation and way of drawing to the service at `url`."""
    import requests
    import schemathesis  # of the tests

    statuses = {(method, path): set(op["responses"]) for method, path, op in operations(told)}
    drawn = Drawn()
    described: Any = schemathesis.openapi.from_dict(told)
    repeated = settings(
        max_examples=calls,
        deadline=None,
        derandomize=derandomize,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.filter_too_much,
            HealthCheck.data_too_large,
        ],
    )

    def send(case: Any, asked: tuple[str, str]) -> None:
        began = time.monotonic()
        try:
            answer = case.call(base_url=url, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            drawn.wrong.append(f"{' '.join(asked)}: no answer: {error}")
            return
        took = time.monotonic() - began
        drawn.statuses[answer.status_code] += 1
        generated = asked[1] in GENERATED and answer.status_code == 200
        if took > drawn.slowest_s and not generated:
            drawn.slowest_s, drawn.slowest = took, " ".join(asked)
        if (fault := _fault(answer, statuses[asked])) is not None:
            drawn.wrong.append(f"{' '.join(asked)}: {fault}: {answer.text[:300]}")

    for found in described.get_all_operations():
        operation = found.ok()
        asked = st.just((operation.method.upper(), operation.path))
        for mode in schemathesis.GenerationMode:
            cases = operation.as_strategy(generation_mode=mode)
            with suppress(Unsatisfiable):  # it takes nothing, so nothing of it can be wrong
                repeated(given(cases, asked)(send))()
    return drawn


def _fault(answer: Any, told: set[str]) -> str | None:
    """What is wrong with an answer."""
    status = answer.status_code
    says_when = any(name.lower() == "retry-after" for name in answer.headers)
    if status >= 500 and not (status == 503 and says_when):
        return f"status {status}"
    if "Traceback" in answer.text:
        return "a stack trace"
    if answer.text == "Invalid HTTP request received.":  # uvicorn's, before there is a request
        return None
    if status >= 400 and not _has_our_shape(answer):
        return "an error of another shape"
    # A filled-in path may be another's, or nobody's.
    if status not in (404, 405) and str(status) not in told:
        return f"status {status}, which the description does not tell of"
    return None


def _has_our_shape(answer: Any) -> bool:
    try:
        return set(answer.json()["error"]) == {"message", "type", "param", "code"}
    except (ValueError, LookupError, TypeError):
        return False
