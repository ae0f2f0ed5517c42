"""Hostile input against a live service: `python -m burnish.ops.bench.attacks`.

Known attacks one after the other, then requests drawn by hypothesis from the same kinds: numbers
beyond every range, text that is no text, deep nesting, wrong types, sizes. Each must get the right
answer, an OpenAI-shaped error that names the parameter, within seconds; after each, the service must be
ready and a chat answered. While the largest bodies are read, the health check must not wait. Left out:
whether routes keep what they accept (chaos.py), and other users of the machine (doors).
"""

from __future__ import annotations

import concurrent.futures
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx2 as httpx
import typer
from burnish.ops.bench.lib.results import FOLDER, MustShow, print_figures, write_results
from burnish.ops.bench.lib.service import run_service
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

DRAWN = 200
ANSWER_S, CHAT_S, HEALTH_S = 5.0, 2.0, 1.0
REFUSED = (400, 404, 413, 415, 422)
SURROGATE = "hi \ud83d"
MESSAGES = [{"role": "user", "content": "What is 12 + 30?"}]
CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Attack:
    """A request, the statuses that are right for it, and the parameter that a refusal must name."""

    name: str
    path: str
    body: Any = None
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    right: tuple[int, ...] = (400,)
    param: str | None = None

    def request(self, base: str) -> httpx.Request:
        raw = self.body if isinstance(self.body, bytes) or self.body is None else encode(self.body)
        headers = {"content-type": "application/json", **self.headers}
        return httpx.Request(self.method, base + self.path, content=raw, headers=headers)


def encode(body: Any) -> bytes:
    """JSON as a hostile client writes it: lone surrogates escaped, NaN and Infinity as they are."""
    return json.dumps(body).encode("ascii")


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        inner = {"type": "object", "properties": {"a": inner}}
    return inner


def tool(parameters: Any, name: str = "f") -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": name, "parameters": parameters}}]


def chat(**changed: Any) -> dict[str, Any]:
    return {"model": "default", "messages": MESSAGES, "max_tokens": 8, **changed}


def known(interaction: str) -> list[Attack]:
    """What once ended a thread, stopped the others, was a 500, or was accepted and lost."""
    wide = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(2000)}}
    thumb = {"interaction_id": interaction, "name": "thumbs", "value": "up"}
    events = "/v1/memory/sessions/attacks/events"
    schema = {"type": "json_schema", "json_schema": {"name": "wide", "schema": wide}}
    return [
        Attack(
            "thinking budget 10**20",
            CHAT,
            chat(reasoning_effort="low", thinking_token_budget=10**20),
            param="thinking_token_budget",
        ),
        Attack("seed 2**80", CHAT, chat(seed=2**80), param="seed"),
        Attack("max_tokens 10**30", CHAT, chat(max_tokens=10**30), param="max_tokens"),
        Attack("temperature NaN", CHAT, chat(temperature=float("nan")), param="temperature"),
        Attack("n 10**9", CHAT, chat(n=10**9), param="n"),
        Attack(
            "choice 2**70",
            "/v1/feedback",
            {"session_id": "s", "name": "thumbs", "value": "up", "choice": 2**70},
            param="choice",
        ),
        Attack("choice 5 of one", "/v1/feedback", {**thumb, "choice": 5}, param="choice"),
        Attack("score 1e400", "/v1/feedback", encode(thumb)[:-1] + b', "score": 1e400}'),
        Attack(
            "view version 10**20",
            f"/v1/memory/sessions/attacks/context?budget=100&version={10**20 - 1}",
            method="GET",
            param="version",
        ),
        Attack("cursor 10**40", f"{events}?after={10**40}", method="GET", right=(400, 404)),
        Attack("surrogate in content", CHAT, chat(messages=[{"role": "user", "content": SURROGATE}])),
        Attack("surrogate in a stream", CHAT, chat(stop=[SURROGATE], stream=True)),
        Attack("surrogate in metadata", CHAT, chat(metadata={"a": SURROGATE})),
        Attack("surrogate in the model", CHAT, chat(model=SURROGATE)),
        Attack("surrogate in a tool", CHAT, chat(tools=tool({"description": SURROGATE}))),
        Attack("surrogate in a prompt", "/v1/completions", {"model": "default", "prompt": SURROGATE}),
        Attack(
            "surrogate in feedback",
            "/v1/feedback",
            {"interaction_id": interaction, "name": "comment", "value": SURROGATE},
        ),
        Attack("surrogate in an id", "/v1/feedback", {**thumb, "interaction_id": SURROGATE}),
        Attack("surrogate in a step", events, {"events": [{"role": "user", "content": SURROGATE}]}),
        Attack("surrogate in a record", "/v1/memory/records", {"text": SURROGATE}),
        Attack("tool nested 900 deep", CHAT, chat(tools=tool(nested(900)))),
        Attack("body nested 100,000 deep", CHAT, b"[" * 100_000 + b"]" * 100_000),
        Attack("not JSON", CHAT, b"{"),
        Attack("not UTF-8", CHAT, b'{"model": "\xff"}'),
        Attack("1 MB prompt", CHAT, chat(messages=[{"role": "user", "content": "ab " * 350_000}])),
        Attack("10 MB body", CHAT, chat(user="x" * 10_000_000), right=(413,)),
        Attack("128 choices of a wide schema", CHAT, chat(n=128, response_format=schema), right=(200, 400)),
        Attack(
            "a form of another site",
            "/v1/policies/default/rollback",
            b"a=b",
            headers={
                "content-type": "application/x-www-form-urlencoded",
                "origin": "https://evil.example",
                "sec-fetch-site": "cross-site",
            },
            right=(403, 415),
        ),
        Attack(
            "JSON of another site",
            "/v1/policies/default/rollback",
            {},
            headers={"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
            right=(403,),
        ),
        Attack("a rebound name", "/v1/models", method="GET", headers={"host": "evil.example"}, right=(400, 401, 403, 421)),
    ]  # fmt: skip


def long_twice() -> Attack:
    """17,000 tokens, the second time from the prefix cache; refused where the context is shorter."""
    words = " ".join(str(n % 10) for n in range(17_000))
    return Attack("a long prompt twice", CHAT, chat(messages=[{"role": "user", "content": words}]), right=(200, 400))  # fmt: skip


# --- drawn attacks -------------------------------------------------------------------------------

BAD_TEXT = st.sampled_from(
    [SURROGATE, "\x00", "", "a" * 100_000, "../../etc/passwd", "\u202e", "{{x}}", "\n" * 5000]
)
BAD_NUMBER = st.one_of(
    st.integers(2**31, 2**200),
    st.integers(-(2**200), -1),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e308, -0.0, 5e-324]),
)
BAD = st.one_of(
    BAD_TEXT,
    BAD_NUMBER,
    st.none(),
    st.booleans(),
    st.lists(BAD_NUMBER, max_size=3),
    st.dictionaries(BAD_TEXT, BAD_NUMBER, max_size=2),
    st.integers(50, 200).map(nested),
)
BODIES: list[tuple[str, Any]] = [
    (CHAT, {**chat(temperature=1.0, top_p=0.5, n=1, seed=1, stop=["x"], logit_bias={"1": 1}, stream=True, user="u", session_id="s", metadata={"a": "b"}, thinking_token_budget=4, reasoning_effort="low"), "tools": tool({"type": "object"})}),
    ("/v1/completions", {"model": "default", "prompt": "a", "max_tokens": 4, "seed": 1, "stop": "b"}),
    ("/v1/feedback", {"session_id": "s", "name": "thumbs", "value": "up", "choice": 0, "rationale": "r", "metadata": {"a": 1}, "id": "i"}),
    ("/v1/memory/sessions/attacks/events", {"events": [{"role": "user", "content": "c", "kind": "message", "id": "i"}]}),
    ("/v1/memory/records", {"text": "t", "user": "u", "metadata": {"a": "b"}}),
    ("/v1/memory/sessions/attacks/compact", {"policy": "recent", "budget": 100}),
    ("/v1/memory/tool", {"command": "view", "path": "/memories", "user": "u"}),
    ("/v1/responses/compact", {"model": "default", "input": "x"}),
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value, itself excluded."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()  # fmt: skip
    return [at for key in keys for at in ((*path, key), *places(value[key], (*path, key)))]


def replaced(value: Any, path: Sequence[Any], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@st.composite
def drawn_attacks(draw: st.DrawFn) -> Attack:
    """A valid request in which one place holds what does not belong there."""
    path, body = draw(st.sampled_from(BODIES))
    where = draw(st.sampled_from(places(body)))
    name = f"{path} {'.'.join(map(str, where))}"
    return Attack(
        name, path, replaced(body, where, draw(BAD)), right=(200, 201, 202, 409, *REFUSED)
    )


# --- running them --------------------------------------------------------------------------------


class Target:
    """A live service, and what went wrong on it."""

    def __init__(self, base: str, client: httpx.Client) -> None:
        self.base, self.client = base, client
        self.wrong: list[str] = []
        self.slowest_s = self.slowest_chat_s = self.slowest_health_s = 0.0

    def launch(self, attack: Attack) -> None:
        """Send it, watch the health check meanwhile, then ask for readiness and a chat."""
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            began = time.monotonic()
            sent = pool.submit(self.client.send, attack.request(self.base))
            while not sent.done():
                self._watch_health(attack)
            took = time.monotonic() - began
        self.slowest_s = max(self.slowest_s, took)
        try:
            problem = judge(attack, sent.result())
        except httpx.HTTPError as error:
            problem = f"no answer: {type(error).__name__}"
        if problem:
            self.wrong.append(f"{attack.name}: {problem}")
        self._check_alive(attack)

    def _watch_health(self, attack: Attack) -> None:
        began = time.monotonic()
        if httpx.get(f"{self.base}/healthz", timeout=60).status_code != 200:
            self.wrong.append(f"{attack.name}: not healthy meanwhile")
        self.slowest_health_s = max(self.slowest_health_s, time.monotonic() - began)
        time.sleep(0.05)

    def _check_alive(self, attack: Attack) -> None:
        began = time.monotonic()
        ready = self.client.get(f"{self.base}/readyz")
        reply = self.client.post(f"{self.base}{CHAT}", json=chat())
        self.slowest_chat_s = max(self.slowest_chat_s, time.monotonic() - began)
        if (ready.status_code, reply.status_code) != (200, 200):
            after = f"readyz {ready.status_code}, chat {reply.status_code}"
            self.wrong.append(f"{attack.name}: afterwards {after}")


def judge(attack: Attack, reply: httpx.Response) -> str | None:
    """What is wrong with a reply; None if nothing."""
    if reply.status_code not in attack.right:
        return f"{reply.status_code}: {reply.text[:200]}"
    if "Traceback" in reply.text:
        return "a stack trace"
    if reply.status_code < 400:
        return None
    try:
        error = reply.json()["error"]
    except (ValueError, KeyError, TypeError):
        return f"{reply.status_code} without an error object: {reply.text[:200]}"
    if not error.get("message"):
        return "an error without a message"
    if attack.param and attack.param not in str(error.get("param")):
        return f"names {error.get('param')}, not {attack.param}"
    return None


def launch_all(base: str, drawn: int) -> Target:
    with httpx.Client(timeout=120) as client:
        target = Target(base, client)
        first = client.post(f"{base}{CHAT}", json=chat()).raise_for_status().json()
        step = {"events": [{"role": "user", "content": "Hello."}]}
        client.post(f"{base}/v1/memory/sessions/attacks/events", json=step).raise_for_status()
        for attack in (*known(first["id"]), long_twice(), long_twice()):
            target.launch(attack)

        @seed(0)
        @settings(
            max_examples=drawn,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        @given(drawn_attacks())
        def draw_and_launch(attack: Attack) -> None:
            target.launch(attack)

        draw_and_launch()
    return target


def main(
    drawn: Annotated[int, typer.Option(help="Attacks drawn beside the known ones.")] = DRAWN,
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = FOLDER,
) -> None:
    """Attack a service of its own; exit code 1 where an answer was wrong."""
    sys.setrecursionlimit(20_000)  # to write the nested ones
    with (
        tempfile.TemporaryDirectory() as scratch,
        run_service(Path(scratch)) as service,
    ):
        service.wait_until_idle()
        target = launch_all(service.url, drawn)
    for line in target.wrong:
        print(line)
    figures = {
        "known": len(known("")) + 2,
        "drawn": drawn,
        "wrong": target.wrong,
        "slowest_answer_seconds": target.slowest_s,
        "slowest_readiness_and_chat_afterwards_seconds": target.slowest_chat_s,
        "slowest_health_check_meanwhile_seconds": target.slowest_health_s,
    }
    print_figures("hostile input against a live service", figures)
    must_show = [
        MustShow("answers that were not right, or a service not well afterwards", len(target.wrong), "0", not target.wrong),
        MustShow("readiness and a chat afterwards, slowest, seconds", target.slowest_chat_s, f"<= {CHAT_S:.0f}", target.slowest_chat_s <= CHAT_S),
        MustShow("health check meanwhile, slowest, seconds", target.slowest_health_s, f"<= {HEALTH_S:.0f}", target.slowest_health_s <= HEALTH_S),
    ]  # fmt: skip
    print(write_results("attacks", figures, out, must_show=must_show))
    raise typer.Exit(0 if all(line.met for line in must_show) else 1)


if __name__ == "__main__":
    typer.run(main)
