"""The field's own way to learn from the same number of votes: TRL's KTO and DPO, on a log of the base.

A log goes in as `burnish export` writes it, an adapter's folder comes out. TRL runs in a process of its own
(trl_baseline.py), which needs the extra `baselines`. Left out: DPO on pairs that people were asked to
compare; its pairs are an answer that was liked and one that was not, to the same prompt.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

from burnish.learner.database import Database
from burnish.learner.exchange.export import judged_answers, rows

Method = Literal["kto", "dpo"]
METHODS: tuple[Method, ...] = ("kto", "dpo")
TRAINER = "burnish.ops.bench.lib.trl_baseline"


class BaselineFailed(RuntimeError):
    """TRL's process ended with an error; the message is the end of what it said."""


def write_log(database: Database, policy: str, method: Method, path: Path) -> int:
    """Write a policy's votes as rows for a method; returns how many."""
    written = 0
    with path.open("w") as file:
        for row in rows(judged_answers(database, policy), method):
            file.write(json.dumps(row) + "\n")
            written += 1
    return written


def train_baseline(method: Method, model: Path, log: Path, out: Path, rate: float) -> Path:
    """Train an adapter on a log; returns its folder, in peft's format. Raises BaselineFailed."""
    command = [sys.executable, "-m", TRAINER, method, str(model), str(log), str(out)]
    done = subprocess.run(
        [*command, "--learning-rate", str(rate)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BaselineFailed(done.stderr.strip()[-300:])
    return Path(done.stdout.strip().splitlines()[-1])
