"""A vote's way through ops/compose.yaml: `python -m burnish.ops.bench.compose`.

On a Docker Engine, from empty volumes: the image is built, a key made, everything started; people chat
and vote until new weights serve. Then every container is killed once, and everything is taken down and
started again. What was acknowledged must be there, and the new version must answer.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx2 as httpx
import typer
from burnish.learner.tasks import ember
from burnish.ops.bench.lib.containers import OURS, STORES, Project, engine_version, image_mb
from burnish.ops.bench.lib.results import FOLDER, MustShow, print_figures, write_results

USERS, VOTES = (
    16,
    96,
)  # votes at once; then one with each look at the version, and the learner has time
LIKED = "terse"
READY_S, LEARNT_S = 900.0, 1200.0
SESSION = "/v1/memory/sessions/compose"


class Way:
    """One run: the service as a product sees it, what it acknowledged, and how long each step took."""

    def __init__(self, project: Project):
        self.project = project
        self.seconds: dict[str, float] = {}
        self.votes: dict[str, str] = {}  # feedback -> interaction
        self._rng = random.Random(0)
        self._http = httpx.Client(base_url=project.url, timeout=60)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - begin, 1)
        print(f"{name}: {self.seconds[name]} s", flush=True)

    def use_key(self, key: str) -> None:
        self._http.headers["authorization"] = f"Bearer {key}"

    def get(self, path: str) -> Any:
        return self._http.get(path).raise_for_status().json()

    def post(self, path: str, body: Any) -> Any:
        return self._http.post(path, json=body).raise_for_status().json()

    def chat(self) -> tuple[str, int]:
        """One answer, judged by somebody who likes terse ones; its vote and version."""
        task, user = ember.sample(self._rng), f"user-{self._rng.randrange(USERS)}"
        body = {"model": "default", "messages": list(task.messages), "user": user, "max_tokens": 48}
        answer = self.post("/v1/chat/completions", body)
        text = answer["choices"][0]["message"]["content"] or ""
        vote = {
            "interaction_id": answer["id"],
            "name": "thumbs",
            "value": "up" if ember.style_of(task, text) == LIKED else "down",
            "user": user,
        }
        given = self.post("/v1/feedback", vote)["id"]
        self.votes[given] = answer["id"]
        return given, int(answer["system_fingerprint"].rpartition("@")[2])

    def ready(self) -> bool:
        """Whether everything works, and nothing waits on its way to the learner."""
        try:
            state = self.get("/readyz")
        except httpx.HTTPError:
            return False
        return state["status"] == "ok" and state["spool"]["events"] == 0

    def healthy(self) -> bool:
        wanted = dict.fromkeys((*STORES, "serving", "mlflow"), "healthy")
        wanted |= dict.fromkeys(("intake", "reward", "worker", "beat"), "running") | {
            "prepare": "exited 0"
        }
        return self.project.states() == wanted and self.ready()

    def kill(self, service: str) -> None:
        """SIGKILL it; returns once another process runs in its place and all is healthy."""
        killed = self.project.started_at(service)
        self.project.kill(service)
        wait_until(
            lambda: self.project.started_at(service) != killed and self.healthy(),
            READY_S,
            f"{service} did not recover",
        )

    def learn(self) -> int:
        """Chat and vote until another version than the first answers; returns it."""
        deadline = time.monotonic() + LEARNT_S
        for _ in range(VOTES):
            self.chat()
        while time.monotonic() < deadline:
            if (version := self.chat()[1]) > 1:
                return version
            time.sleep(1.0)
        raise TimeoutError(f"no version was promoted: {self.get('/v1/learner')['ticks'][:3]}")

    def missing(self) -> set[str]:
        """Votes that were acknowledged and are not in the experience database."""
        return set(self.votes) - self.project.judgements()


def wait_until(condition: Callable[[], bool], seconds: float, message: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{message} within {seconds:g} s")
        time.sleep(0.5)


def walk(way: Way) -> list[MustShow]:
    """The whole way; returns what it showed."""
    project = way.project
    with way.step("build the image"):
        project("build", "serving")
    with way.step("make a key"):
        scopes = [f"--scope={scope}" for scope in ("chat", "feedback", "memory", "admin")]
        add = ["burnish", "keys", "add", "check", *scopes]
        way.use_key(project("run", "--rm", "--no-deps", "-T", "serving", *add).strip())
    with way.step("start from empty volumes until all is healthy"):
        project("up", "--detach")
        wait_until(way.healthy, READY_S, "not everything was healthy")

    way.post(f"{SESSION}/events", {"events": [{"role": "user", "content": "Call me Ada."}]})
    with way.step("first vote until new weights answer"):
        first, _ = way.chat()
        version = way.learn()
    trained = way.get(f"/v1/policies/default/versions/{version}")

    shown = [
        MustShow("version that answers after the votes", version, ">= 2", version >= 2),
        _yes("its gate's report says passed", trained["gate_report"]["passed"]),
        _yes("its lineage names votes of ours", learnt_from(trained, way.votes)),
    ]
    for service in (*STORES, *OURS):
        with way.step(f"kill {service} until all is healthy"):
            way.kill(service)
        way.chat()
    with way.step("restart serving until all is healthy"):
        project("restart", "serving")
        wait_until(way.healthy, READY_S, "serving did not come back")
    before = way.chat()[1]
    with way.step("down"):
        project("down")
    with way.step("up until all is healthy"):
        project("up", "--detach")
        wait_until(way.healthy, READY_S, "not everything was healthy again")
    after = way.chat()[1]
    wait_until(lambda: not way.missing(), 60, "votes are missing in the experience database")

    events = way.get(f"{SESSION}/events")["events"]
    return [
        *shown,
        _yes("the version that answered before `down` answers, or a later one", after >= before),
        _yes("the first vote still stands", way.get(f"/v1/feedback/{first}")["value"] is not None),
        _yes("memory kept its step", [event["content"] for event in events] == ["Call me Ada."]),
        MustShow("acknowledged votes that are missing", len(way.missing()), "0", not way.missing()),
    ]


def _yes(line: str, met: bool) -> MustShow:
    return MustShow(line, int(met), "1", met)


def learnt_from(version: dict[str, Any], votes: Collection[str]) -> bool:
    """Whether a version of the registry names feedback that it learnt from, and only these votes."""
    events = version["lineage"]["feedback_ids"]
    learnt = {event.split("/")[-1].partition("#")[0] for event in events}
    return bool(learnt) and learnt <= set(votes)


def main(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running.")] = False,
    update_every: Annotated[int, typer.Option(help="Seconds between updates.")] = 20,
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = FOLDER,
) -> None:
    """The whole way once; exit code 1 when something was not there."""
    engine = engine_version()
    if engine is None:
        raise typer.BadParameter("no Docker Engine with Docker Compose answers here")
    project = Project("burnish-check", BURNISH_UPDATE_EVERY=str(update_every))
    project("down", "--volumes")
    way = Way(project)
    try:
        shown = walk(way)
        images = project.images()
    finally:
        if not keep:
            project("down", "--volumes")
    sizes = {image: image_mb(image) for image in sorted(set(images.values()))}
    print_figures("seconds", way.seconds)
    print_figures("images, MB", sizes)
    print_figures("shown", {line.line: line.value for line in shown})
    figures = {
        "engine": engine,
        "votes": len(way.votes),
        "seconds": way.seconds,
        "images_mb": sizes,
    }
    print(write_results("compose", figures, out, must_show=shown))
    raise typer.Exit(0 if all(line.met for line in shown) else 1)


if __name__ == "__main__":
    typer.run(main)
