"""Model evaluation: pass@1 and pass@k per family on held-out tasks, and the styles of answers.

Every task is sampled k times at temperature 1 on the serving engine. Pass@k is the unbiased
estimate (Chen et al. 2021); with k samples it is the share of tasks solved by any of them. Left
out: judging wording beyond its style.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from random import Random

from burnish.learner.tasks.ember import FAMILIES, STYLES, Exercise, is_correct, sample, style_of
from burnish.serving.engine import LocalEngine, Request, SamplingParams


@dataclass(frozen=True)
class FamilyScore:
    """Shares in [0, 1]. `level_pass` maps a level to its pass@1."""

    tasks: int
    pass_1: float
    pass_k: float
    level_pass: Mapping[int, float]
    styles: Mapping[str, float]  # share of answers; "none": no recognised style
    tokens: float  # mean length of an answer
    examples: Sequence[tuple[str, str]] = ()  # (prompt, wrong answer)


@dataclass(frozen=True)
class Scores:
    k: int
    families: Mapping[str, FamilyScore]

    @property
    def pass_1(self) -> float:
        return sum(f.pass_1 for f in self.families.values()) / len(self.families)

    @property
    def pass_k(self) -> float:
        return sum(f.pass_k for f in self.families.values()) / len(self.families)


def pass_at_k(answers: int, right: int, k: int) -> float:
    """Probability that k answers drawn from `answers`, of which `right` are right, contain a right one."""
    return 1.0 - comb(answers - right, k) / comb(answers, k)


def evaluate(
    model: Path | str | LocalEngine,
    per_family: int = 32,
    k: int = 8,
    seed: int = 0,
    families: Sequence[str] | None = None,
    style_prompt: str | None = None,
    thinking: bool = False,
    max_tokens: int = 96,
) -> Scores:
    """Held-out scores of a model folder, or of an engine.

    `style_prompt` becomes the system message; `thinking` opens a think block.
    """
    engine = (
        model
        if isinstance(model, LocalEngine)
        else LocalEngine(model, max_running=64, max_model_len=768)
    )
    rng = Random(f"evaluate {seed}")
    names = tuple(families or FAMILIES)
    tasks = [sample(rng, name, "heldout") for name in names for _ in range(per_family)]
    answers = _answers(engine, tasks, k, rng, style_prompt, thinking, max_tokens)
    spans = {name: slice(i * per_family, (i + 1) * per_family) for i, name in enumerate(names)}
    return Scores(k, {name: _score(tasks[s], answers[s], k) for name, s in spans.items()})


def _answers(
    engine: LocalEngine,
    tasks: Sequence[Exercise],
    k: int,
    rng: Random,
    style_prompt: str | None,
    thinking: bool,
    max_tokens: int,
) -> list[list[tuple[str, int]]]:
    """Per task k answers as (text, tokens)."""
    requests = []
    for number, task in enumerate(tasks):
        messages = list(task.messages)
        if style_prompt and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": style_prompt})
        prompt = engine.tokenizer.apply_chat_template(
            messages,
            tools=list(task.tools) if task.tools else None,
            add_generation_prompt=True,
            enable_thinking=thinking,
            return_dict=False,
        )
        for choice in range(k):
            params = SamplingParams(max_tokens=max_tokens, seed=rng.getrandbits(32))
            requests.append(Request(f"{number}-{choice}", tuple(prompt), params))
    done = engine.generate_batch(requests)
    texts = [(c.text, len(c.token_ids)) for c in done]
    return [texts[at : at + k] for at in range(0, len(texts), k)]


def _score(
    tasks: Sequence[Exercise], answers: Sequence[Sequence[tuple[str, int]]], k: int
) -> FamilyScore:
    styles: Counter[str] = Counter()
    levels: dict[int, list[float]] = {}
    hits, examples, tokens = [], [], 0
    for task, texts in zip(tasks, answers, strict=True):
        right = [is_correct(task, text) for text, _ in texts]
        hits.append(sum(right))
        levels.setdefault(task.level, []).append(sum(right) / k)
        styles.update(style_of(task, text) or "none" for text, _ in texts)
        tokens += sum(n for _, n in texts)
        prompt = task.messages[-1]["content"]
        examples += [(prompt, t) for (t, _), ok in zip(texts, right, strict=True) if not ok][:1]
    total = len(tasks) * k
    return FamilyScore(
        tasks=len(tasks),
        pass_1=sum(hits) / total,
        pass_k=sum(pass_at_k(k, h, k) for h in hits) / len(tasks),
        level_pass={level: sum(p) / len(p) for level, p in sorted(levels.items())},
        styles={style: styles[style] / total for style in (*STYLES, "none")},
        tokens=tokens / total,
        examples=tuple(examples[:3]),
    )


def table(scores: Scores) -> str:
    """The scores as a Markdown table."""
    lines = [
        f"| family | pass@1 | pass@{scores.k} | by level | terse / explained / friendly | tokens |",
        "|---|---|---|---|---|---|",
    ]
    for name, f in sorted(scores.families.items()):
        levels = " / ".join(f"{p:.2f}" for p in f.level_pass.values())
        styles = " / ".join(f"{f.styles[style]:.2f}" for style in STYLES)
        lines.append(
            f"| {name} | {f.pass_1:.2f} | {f.pass_k:.2f} | {levels} | {styles} | {f.tokens:.0f} |"
        )
    lines.append(f"| **mean** | **{scores.pass_1:.2f}** | **{scores.pass_k:.2f}** | | | |")
    return "\n".join(lines)
