"""One vote's whole way as one trace: from its request to the version served, over every process."""

import json
import secrets
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.service import Service
from tests.test_loop import IN_A_HURRY, newer_champion

# What the vote's own branch of the trace holds, from the request to the version that serves.
WAY = (
    "POST /v1/feedback",
    "spool",
    "send burnish.feedback",
    "process burnish.feedback",
    "update default",
    "train",
    "gate",
    "register",
    "promote",
    "serve default",
)
ANSWER = (
    "POST /v1/chat/completions",
    "chat default",
    "engine prefill",
    "engine decode",
    "spool",
    "send burnish.interactions",
    "process burnish.interactions",
)


def spans_of(data_dir: Path, trace_id: str) -> dict[str, dict[str, Any]]:
    """The spans of a trace by id, as every process wrote them."""
    lines = [
        json.loads(line)
        for file in (data_dir / "traces").glob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    return {
        line["context"]["span_id"]: line
        for line in lines
        if line["context"]["trace_id"] == f"0x{trace_id}"
    }


@pytest.mark.timeout(600)
def test_one_trace_leads_from_the_post_to_the_version_served(tiny_model: Path, tmp_path: Path):
    trace_id, client_span = secrets.token_hex(16), secrets.token_hex(8)
    headers = {"traceparent": f"00-{trace_id}-{client_span}-01"}
    settings = {**IN_A_HURRY, "BURNISH_TRACES": "file", "BURNISH_LOG_FORMAT": "json"}
    with Service(tmp_path / "data", tiny_model, **settings) as service:

        def ask(n: int, **options: Any) -> str:
            body = {"model": "default", "messages": [{"role": "user", "content": f"{n} + 4?"}]}
            answer = httpx.post(
                f"{service.url}/v1/chat/completions",
                json={**body, "max_tokens": 12},
                timeout=60,
                **options,
            )
            answer.raise_for_status()
            return answer.json()["id"]

        answered = [ask(n, headers=headers if n == 7 else {}) for n in range(8)]
        for n, interaction in enumerate(answered[:7]):
            service.judge(interaction, "down" if n % 2 else "up")
        vote = {"interaction_id": answered[7], "name": "thumbs", "value": "down"}
        sent = httpx.post(f"{service.url}/v1/feedback", json=vote, headers=headers, timeout=10)
        assert sent.status_code == 202
        champion = service.wait_until(lambda: newer_champion(service), 400, "no promotion")

        def whole() -> bool:
            found = spans_of(service.data_dir, trace_id)
            return {*WAY, *ANSWER} <= {span["name"] for span in found.values()}

        service.wait_until(whole, 60, "the trace is not whole")

    spans = spans_of(service.data_dir, trace_id)

    # Whoever is not the client's own has its parent in the trace: nothing hangs loose.
    parents = {span["parent_id"] for span in spans.values()}
    assert parents <= {f"0x{client_span}", *(span for span in spans)}
    processes = {span["resource"]["attributes"]["service.name"] for span in spans.values()}
    assert processes == {"burnish-serving", "burnish-intake", "burnish-update"}

    by_name = {span["name"]: span for span in spans.values()}
    times = [by_name[name]["start_time"] for name in WAY if name not in ("spool",)]
    assert times == sorted(times), "each part begins after the one before"
    assert by_name["register"]["attributes"]["burnish.policy_version"] == f"default@{champion}"
    assert by_name["serve default"]["attributes"]["burnish.policy_version"] == f"default@{champion}"
    assert by_name["gate"]["attributes"]["burnish.gate_passed"] is True
    # The vote is linked to the answer it is about.
    about = by_name["process burnish.interactions"]["context"]["span_id"]
    links = by_name["process burnish.feedback"]["links"]
    assert [link["context"]["span_id"] for link in links] == [about]
    told = by_name["POST /v1/feedback"]["events"][0]
    assert told["name"] == "gen_ai.evaluation.result"
    assert told["attributes"]["gen_ai.response.id"] == answered[7]
