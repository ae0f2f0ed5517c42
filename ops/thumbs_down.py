"""The way of one thumbs-down through the code, as data: each file it passes, and as what.

`python -m burnish.ops.thumbs_down` draws it as ops/docs/thumbs-down.svg (`make docs`). A test holds
the list to the code: every file exists, and no file of the way imports one that imports it in turn.
Left out: settings, errors and tables, which every stage has.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

PICTURE = Path(__file__).parent / "docs" / "thumbs-down.svg"


@dataclass(frozen=True)
class Stage:
    """One file: the `type` in which the judgement leaves it, and what happens in between."""

    file: str
    type: str
    does: tuple[str, str]


# By the process that runs them. Beside them the rules, pure functions: feedback/judgements.py says
# which judgement stands, feedback/trust/ and feedback/rewards.py what it weighs and is worth.
WAY: dict[str, tuple[Stage, ...]] = {
    "serving": (
        Stage(
            "serving/api/routes/feedback.py",
            "FeedbackEvent",
            ("checks the id's signature,", "answers 202 once it is on disk"),
        ),
        Stage(
            "feedback/spool/spool.py",
            "FeedbackEvent",
            ("fsynced; idempotent by id,", "the last one stands"),
        ),
        Stage(
            "feedback/spool/forwarder.py",
            "StreamRecord",
            ("publishes as a CloudEvent,", "deletes on acknowledgement"),
        ),
    ),
    "stream": (
        Stage(
            "feedback/stream/redis_stream.py",
            "StreamRecord",
            ("keyed by interaction;", "or kafka_stream.py beside it"),
        ),
    ),
    "intake tick": (
        Stage(
            "learner/intake/upsert.py",
            "JudgementRow",
            ("rows and offsets", "in one transaction"),
        ),
        Stage(
            "learner/intake/joining.py",
            "Judgement",
            ("joins it to its answer,", "keeps what stands"),
        ),
    ),
    "update tick": (
        Stage(
            "learner/update/tick.py",
            "Judgement",
            ("alone by a fenced lease,", "taken up where it died"),
        ),
        Stage(
            "learner/reward/experience.py",
            "Experience",
            ("trust and reward,", "computed once"),
        ),
        Stage(
            "learner/rules/reward_model.py",
            "StepBatch",
            ("fresh answers, scored;", "verifiable tasks beside them"),
        ),
        Stage(
            "learner/training/trainer.py",
            "AdapterWeights",
            ("policy gradient under", "a KL budget to the base"),
        ),
        Stage(
            "learner/gate/gate.py",
            "GateReport",
            ("held-out tasks: skills kept,", "no collapse"),
        ),
    ),
    "registry": (
        Stage(
            "serving/registry/policy_registry.py",
            "PolicyVersion",
            ("lineage and report in MLflow;", "the alias champion moves"),
        ),
    ),
    "serving again": (
        Stage(
            "serving/live/policies.py",
            "PolicyVersion",
            ("sees the alias move,", "leases versions to requests"),
        ),
        Stage(
            "serving/live/adapters.py",
            "ServedVersion",
            ("verifies the hash, loads it", "beside the running one"),
        ),
    ),
}

STAGES: tuple[Stage, ...] = tuple(stage for stages in WAY.values() for stage in stages)

LEFT, WIDTH, HEIGHT, GAP, ROW = 130, 196, 92, 22, 122


def as_svg() -> str:
    """One row for each process, one box for each file, the type on the arrow that leaves it."""
    columns = max(map(len, WAY.values()))
    width = LEFT + columns * (WIDTH + GAP) + 10
    height = len(WAY) * ROW + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="ui-sans-serif, system-ui, sans-serif" role="img" aria-labelledby="t">',
        '<title id="t">The way of one thumbs-down, file by file</title>',
        '<defs><marker id="a" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8"'
        ' markerHeight="8" orient="auto"><path d="M0 0 10 5 0 10z" fill="#b45309"/></marker>',
        "<style>.box{fill:#fffbeb;stroke:#b45309;stroke-width:1.4}"
        ".row{font-size:14px;font-weight:650;fill:#92400e}"
        ".file{font-size:13.5px;font-weight:650;fill:#1c1917}"
        ".room{font-size:11px;fill:#78716c}.does{font-size:11.5px;fill:#57534e}"
        ".type{font-size:11.5px;font-weight:600;fill:#b45309}"
        ".way{stroke:#b45309;stroke-width:1.6;fill:none;marker-end:url(#a)}</style></defs>",
        f'<rect width="{width}" height="{height}" rx="12" fill="#fff"/>',
    ]
    for row, (process, stages) in enumerate(WAY.items()):
        top = 12 + row * ROW
        middle = top + HEIGHT // 2
        parts.append(f'<text class="row" x="16" y="{middle + 5}">{escape(process)}</text>')
        for column, stage in enumerate(stages):
            parts += _box(stage, LEFT + column * (WIDTH + GAP), top)
            if column:
                end = LEFT + column * (WIDTH + GAP)
                parts.append(f'<path class="way" d="M{end - GAP + 1} {middle}H{end - 2}"/>')
        if row + 1 < len(WAY):
            out = LEFT + len(stages) * (WIDTH + GAP) - GAP - WIDTH // 2
            into = LEFT + WIDTH // 2
            below = top + HEIGHT + 15
            parts.append(
                f'<path class="way" d="M{out} {top + HEIGHT}V{below}H{into}V{below + 13}"/>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _box(stage: Stage, x: int, y: int) -> list[str]:
    room, _, name = stage.file.rpartition("/")
    text = [
        ("room", 17, room + "/"),
        ("file", 34, name),
        ("does", 51, stage.does[0]),
        ("does", 65, stage.does[1]),
        ("type", 83, stage.type),
    ]
    box = f'<rect class="box" x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
    return [
        box,
        *(f'<text class="{c}" x="{x + 10}" y="{y + dy}">{escape(t)}</text>' for c, dy, t in text),
    ]


if __name__ == "__main__":
    PICTURE.write_text(as_svg())
