"""Clients that nobody here wrote, as they are released: each at every use, on the real routes.

They live in an environment of their own, which `make test-clients` makes, so that their pins do not
touch ours. Each script is one client; what it is tried at stands in python/uses.py.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from burnish.serving.settings import ServingSettings

from tests.clients.environment import ENVIRONMENT, NEEDS_CLIENTS
from tests.clients.python.uses import USES
from tests.clients.service import ScriptedEngine
from tests.serving.conftest import Running
from tests.waiting import eventually

HERE = Path(__file__).parent
pytestmark = NEEDS_CLIENTS
SCRIPTS = sorted(
    script
    for script in (*HERE.glob("python/*.py"), *HERE.glob("node/*.js"))
    if script.stem != "uses"
)


@pytest.mark.parametrize(
    "script", SCRIPTS, ids=lambda script: f"{script.parent.name}-{script.stem}"
)
def test_every_use_of_a_client_works(
    script: Path,
    serve: Callable[..., Running],
    settings: ServingSettings,
    redis_url: str,
    redis_client: redis.Redis,
) -> None:
    engine = ScriptedEngine()
    running = serve(settings.model_copy(update={"redis_url": redis_url}), engine)
    interpreter = str(ENVIRONMENT / "bin/python") if script.suffix == ".py" else "node"
    done = subprocess.run(
        [interpreter, script.name, running.url],
        cwd=script.parent,
        env={**os.environ, "OPENAI_API_KEY": "unused", "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"use"')]
    outcomes = {line["use"]: line["error"] for line in lines}
    assert set(outcomes) == set(USES), done.stderr
    assert not any(outcomes.values()), "\n".join(filter(None, outcomes.values()))
    eventually(lambda: not engine.running)  # an answer that was given up gives back its slot
    tried = [count for said, count in engine.tries.items() if said.startswith("Are you busy?")]
    assert tried
    assert set(tried) == {2}  # refused once, asked again
