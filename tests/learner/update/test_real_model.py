"""A language model that people do run, SmolLM2-135M-Instruct, from its file to a version that has learnt."""

from datetime import timedelta
from pathlib import Path

from burnish.learner.intake.upsert import upsert
from burnish.learner.training.prompts import task_prompt
from burnish.learner.training.rollouts import generate
from burnish.learner.update.tick import Learner
from burnish.ops.bench.lib.everyday_prompts import load_prompts
from burnish.serving.engine import Request, SamplingParams

from tests.learner.conftest import START, interaction, thumbs

LONGEST = 48  # tokens of an answer


def ask(learner: Learner, text: str) -> str:
    """The likeliest answer."""
    ids = learner.model.tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
    )
    params = SamplingParams(max_tokens=LONGEST, temperature=0.0)
    [answer] = generate(learner.engine, [Request(id="1", prompt_ids=tuple(ids), params=params)])
    return answer.text


def vote(learner: Learner, count: int) -> None:
    """Two answers to each everyday prompt, whose shorter one is liked."""
    requests = [
        Request(
            id=f"{number}",
            prompt_ids=task_prompt(learner.model, prompt),
            params=SamplingParams(max_tokens=LONGEST, seed=number),
        )
        for number, prompt in enumerate(
            p for p in load_prompts("train")[: count // 2] for _ in "ab"
        )
    ]
    given = generate(learner.engine, requests)
    events = []
    for number, answer in enumerate(given):
        other = given[number ^ 1]
        told = {"index": 0, "text": answer.text, "finish_reason": "stop"}
        told |= {"token_ids": answer.token_ids, "logprobs": answer.logprobs}
        at = {"user": f"user-{number % 7}", "time": START + timedelta(minutes=number)}
        asked = {"prompt_ids": answer.prompt_ids, "completions": [told], "user": at["user"]}
        shorter = (len(answer.text), number) < (len(other.text), number ^ 1)
        events += [interaction(number, **asked), thumbs(number, "up" if shorter else "down", **at)]
    with learner.database.write() as session:
        upsert(session, events)


def test_a_real_model_answers_and_learns(learner_with, smollm2: Path):
    learner = learner_with(
        model=smollm2,
        tasks="auto",
        update_steps=1,
        max_answer_tokens=LONGEST,
        lora_rank=16,
        lora_alpha=32,
    )
    assert "Paris" in ask(learner, "What is the capital of France?")
    vote(learner, 32)
    tick = learner.tick("default")
    assert tick.why_not is None, tick
    assert tick.counts["version"] == 2
    assert tick.counts["judgements"] == 32
    version = learner.registry.get("default", 2)
    assert version.gate_report["passed"]
    assert "languages" in version.gate_report["families"], "the built-in pack asked"
