"""A stand-in for the service that answers in mixed styles and learns which ones are preferred.

It knows the tasks, since it shares the process with the test, so its "weights" are only one weight
per style and family. Every `every` thumbs make a version; version 1 never changes. With a seed in
the request, correctness and style are drawn from that seed: two versions asked the same prompt with
the same seed differ by their style weights alone.
"""

import contextlib
import itertools
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import uvicorn
from burnish.learner.tasks import ember
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

SKILL = 0.8


class StandIn:
    def __init__(self, every: int = 50, fails_each: int = 0, refuses_each: int = 0) -> None:
        self.every, self.fails_each, self.refuses_each = every, fails_each, refuses_each
        self.tasks: dict[str, ember.Exercise] = {}
        self.answers: dict[str, tuple[str, str]] = {}  # interaction -> (family, style)
        self.votes: dict[str, tuple[str, bool]] = {}  # feedback id -> (interaction, up)
        self.retracted: set[str] = set()
        self.unlearnt: list[str] = []
        self.versions: dict[int, dict[str, Any]] = {1: {"parent": None, "lineage": {}}}
        self.style_weights: dict[int, dict[str, list[float]]] = {1: {}}
        self.ticks: list[dict[str, Any]] = []
        self.numbers = itertools.count()
        self.requests = itertools.count(1)
        self.rng = random.Random(0)
        self.app = FastAPI()
        self.app.post("/v1/chat/completions")(self.chat)
        self.app.post("/v1/feedback", status_code=202)(self.feedback)
        self.app.delete("/v1/feedback/{feedback_id}")(self.retract)
        self.app.get("/v1/policies")(self.policies)
        self.app.get("/v1/policies/{name}/versions/{version}")(self.version)
        self.app.get("/v1/learner")(self.learner)

    def remember(self, task: ember.Exercise) -> ember.Exercise:
        self.tasks[json.dumps(task.messages)] = task
        return task

    async def chat(self, request: Request) -> Any:
        body = await request.json()
        count = next(self.requests)
        if self.fails_each and count % self.fails_each == 0:
            raise HTTPException(500, "broken on purpose")
        if self.refuses_each and count % self.refuses_each == 0:
            return JSONResponse({"error": {"message": "full"}}, 429, {"Retry-After": "0.01"})
        task = self.tasks[json.dumps(body["messages"])]
        pinned = body["model"].partition("@")[2]
        version = int(pinned) if pinned else max(self.versions)
        rng = random.Random(body["seed"]) if "seed" in body else self.rng
        right = rng.random() < SKILL
        weights = self.style_weights[version].get(task.family, [1.0] * len(ember.STYLES))
        style = rng.choices(ember.STYLES, weights)[0]
        message = ember.demonstrate(task, style, rng)
        if not right:
            message = {"role": "assistant", "content": "I do not know that one."}
        answer_id = f"chatcmpl-{next(self.numbers)}"
        self.answers[answer_id] = (task.family, style)
        return {
            "id": answer_id,
            "object": "chat.completion",
            "created": int(time.time()),
            "model": "default",
            "system_fingerprint": f"default@{version}",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }

    async def feedback(self, request: Request) -> dict[str, str]:
        body = await request.json()
        feedback_id = f"fb-{next(self.numbers)}"
        self.votes[feedback_id] = (body["interaction_id"], body["value"] == "up")
        self.unlearnt.append(feedback_id)
        if len(self.unlearnt) >= self.every:
            self.learn()
        return {"id": feedback_id}

    async def retract(self, feedback_id: str) -> dict[str, str]:
        self.retracted.add(feedback_id)
        return {"id": feedback_id}

    async def policies(self) -> dict[str, Any]:
        return {"object": "list", "data": [{"name": "default", "champion": max(self.versions)}]}

    async def version(self, name: str, version: int) -> dict[str, Any]:
        return {"policy": name, "version": version, **self.versions[version]}

    async def learner(self) -> dict[str, Any]:
        return {"ticks": self.ticks}

    def learn(self) -> None:
        """A style's weight is its smoothed rate of thumbs-up, sharpened by an exponent."""
        seen: Counter[tuple[str, str, bool]] = Counter()
        for feedback_id, (answer_id, up) in self.votes.items():
            if feedback_id not in self.retracted:
                seen[(*self.answers[answer_id], up)] += 1
        version = max(self.versions) + 1
        self.style_weights[version] = {
            family: [self._rate(seen, family, style) ** 8 for style in ember.STYLES]
            for family in ember.FAMILIES
        }
        self.versions[version] = {
            "parent": version - 1,
            "lineage": {"feedback_ids": [f"local/{item}" for item in self.unlearnt]},
        }
        self.unlearnt = []
        self.ticks.append({"id": f"t{version}", "kind": "update", "at": time.time(),
                           "seconds": 0.1, "did": f"trained version {version}", "why_not": None})  # fmt: skip

    @staticmethod
    def _rate(seen: Counter, family: str, style: str) -> float:
        ups, downs = seen[family, style, True], seen[family, style, False]
        return (ups + 1) / (ups + downs + 2)


@contextlib.contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The app on a free port, in a thread."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
