"""The same service on the real engine, a tiny random model, real adapters and a real MLflow."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from burnish.kernels.cpu import library as native
from burnish.kernels.formats import Weights
from burnish.kernels.lora import init_adapter, save_adapter
from burnish.learner.reward.fitting import DRAWS
from burnish.serving.api.best_of import draw_of
from burnish.serving.app import load_engine
from burnish.serving.engine import LocalEngine
from burnish.serving.live import ServedReward
from burnish.serving.registry import PolicyRegistry
from burnish.serving.reward.features import base_features
from burnish.serving.reward.kernel import Hyperparameters
from burnish.serving.settings import ServingSettings

from tests.conftest import missing
from tests.serving.conftest import Running
from tests.serving.live.test_swaps import champion
from tests.serving.reward_models import fitted, notice_of
from tests.waiting import eventually

GREEDY = {"temperature": 0, "max_tokens": 12}


@pytest.fixture
def running(
    serve: Callable[..., Running],
    settings: ServingSettings,
    registry: PolicyRegistry,
    tiny_model: Path,
) -> Running:
    real = settings.model_copy(update={"model": tiny_model})
    return serve(real, LocalEngine(tiny_model, max_running=8, threads=1), registry)


def random_adapter(engine: LocalEngine, folder: Path, seed: int) -> Path:
    """An adapter that changes answers; one fresh from `init_adapter` would change nothing."""
    import torch
    from burnish.kernels.lora import LoraSpec

    weights = init_adapter(engine.model.model, LoraSpec(), seed)
    generator = torch.Generator().manual_seed(seed)
    for tensor in weights.tensors.values():
        tensor.data.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    save_adapter(weights, folder, str(engine.model.path))
    return folder


def test_answers_streams_and_logprobs_agree(running: Running) -> None:
    whole = running.say("Hi", logprobs=True, top_logprobs=3, **GREEDY)
    streamed = list(running.say("Hi", stream=True, **GREEDY))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
    assert text == whole.choices[0].message.content
    content = whole.choices[0].logprobs.content
    event = running.recorded()[0]
    assert len(content) == len(event.completions[0].token_ids) == whole.usage.completion_tokens
    assert [entry.logprob for entry in content] == pytest.approx(event.completions[0].logprobs)
    for entry in content:  # greedy: the chosen token is the best alternative
        assert entry.top_logprobs[0].logprob == pytest.approx(entry.logprob, abs=1e-4)


def test_a_seed_repeats_an_answer(running: Running) -> None:
    said = [running.say("Hi", seed=5, max_tokens=12).choices[0].message.content for _ in range(2)]
    assert said[0] == said[1]
    three = running.say("Hi", seed=5, max_tokens=12, n=3)
    assert three.choices[0].message.content == said[0]


def test_a_registered_adapter_is_served_pinned_and_rolled_back(
    running: Running, registry: PolicyRegistry, tmp_path: Path
) -> None:
    base = running.say("Hi", **GREEDY).choices[0].message.content
    folder = random_adapter(running.engine, tmp_path / "adapter", seed=1)
    registry.register("default", folder, parent=1, lineage={"feedback": ["f1"]})
    registry.promote("default", 2)
    eventually(lambda: champion(running) == 2)
    changed = running.say("Hi", **GREEDY)
    assert changed.system_fingerprint == "default@2"
    assert changed.choices[0].message.content != base
    assert running.say("Hi", model="default@1", **GREEDY).choices[0].message.content == base
    running.http("POST", "/v1/policies/default/rollback")
    back = running.say("Hi", **GREEDY)
    assert (back.system_fingerprint, back.choices[0].message.content) == ("default@1", base)


SCHEMA = {
    "type": "object",
    "properties": {"unit": {"enum": ["km", "mile"]}, "value": {"type": "integer", "maximum": 99}},
    "required": ["unit", "value"],
    "additionalProperties": False,
}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"enum": [1, 2, 3]}},
            "required": ["a"],
            "additionalProperties": False,
        },
    },
}


@pytest.mark.parametrize("explores", [True, False])
def test_the_candidate_that_the_reward_model_likes_best_is_given(
    running: Running, explores: bool
) -> None:
    """By the recorded draw or by the mean, asked again of the recorded answers' features."""
    with_random_model(running)
    before = running.engine.stats()
    seed = next(seed for seed in range(999) if (draw_of(seed, DRAWS) is not None) == explores)
    best = {"best_of": 4}
    chosen = running.say("Say something. " * 20, seed=seed, max_tokens=20, extra_body=best)
    reused = running.engine.stats().reused_total - before.reused_total
    assert reused >= 3 * (chosen.usage.prompt_tokens // 16 - 1) * 16, "candidates share the prompt"
    event = running.recorded()[0]
    told, reward = event.best_of, running.service.rewards.of("default")
    assert told is not None
    assert reward is not None
    assert (told.draw is not None) == explores
    asked = [(event.prompt_ids, event.completions[0].token_ids)]
    features = base_features(running.engine.model, asked)
    [score] = reward.model.scores_and_support(features, told.draw)[0].tolist()
    finite = [one for one in told.scores if one is not None]
    assert score == pytest.approx(told.scores[told.chosen[0]], abs=1e-3)
    assert told.scores[told.chosen[0]] == max(finite)
    alone = running.say("Say something. " * 20, seed=seed + told.chosen[0], max_tokens=20)
    assert alone.choices[0].message.content == chosen.choices[0].message.content


def with_random_model(running: Running) -> None:
    """A reward model that likes some answers better, whichever."""
    model, generator = running.engine.model, torch.Generator().manual_seed(1)

    def tokens() -> list[int]:
        return torch.randint(5, 200, (6,), generator=generator).tolist()

    answers = [(tokens(), tokens()) for _ in range(24)]
    features = base_features(model, answers)
    reward = fitted(features, [float(n % 2) for n in range(24)], Hyperparameters())
    notice = notice_of(reward, running.service.settings.data_dir, base_sha256=model.sha256)
    running.service.rewards._served["default"] = ServedReward(notice, reward)


def test_candidates_keep_to_a_schema_or_call_a_tool(running: Running) -> None:
    with_random_model(running)
    form = {"type": "json_schema", "json_schema": {"name": "length", "schema": SCHEMA}}
    best: dict[str, Any] = {"extra_body": {"best_of": 3}, "max_tokens": 60}
    choice = running.say("How far?", response_format=form, seed=1, **best).choices[0]
    assert json.loads(choice.message.content)["unit"] in ("km", "mile")
    for stream in (False, True):
        called = running.say("Add.", tools=[ADD], tool_choice="required", stream=stream, **best)
        if stream:
            pieces = [chunk.choices[0].delta.tool_calls for chunk in called if chunk.choices]
            call = next(piece for calls in pieces for piece in calls or ())
        else:
            call = called.choices[0].message.tool_calls[0]
        assert call.function.name == "add"
        assert json.loads(call.function.arguments)["a"] in (1, 2, 3)
    assert all(len(event.best_of.chosen) == 1 for event in running.recorded() if event.best_of)


def test_an_answer_keeps_to_the_schema_it_was_given(running: Running) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "length", "schema": SCHEMA}}
    for seed in range(5):
        choice = running.say("How far?", response_format=form, seed=seed, max_tokens=60).choices[0]
        length = json.loads(choice.message.content)
        assert length["unit"] in ("km", "mile")
        assert length["value"] <= 99
        assert choice.finish_reason == "stop"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
def test_a_tool_call_can_be_asked_for(running: Running, choice) -> None:
    for seed in range(5):
        answer = running.say(
            "1+1?",
            tools=[ADD],
            tool_choice=choice,
            parallel_tool_calls=False,
            seed=seed,
            max_tokens=80,
        ).choices[0]
        assert answer.finish_reason == "tool_calls"
        (call,) = answer.message.tool_calls
        assert call.function.name == "add"
        assert json.loads(call.function.arguments)["a"] in (1, 2, 3)


def test_a_strict_tool_binds_a_call_that_the_model_chose(running: Running) -> None:
    strict = {"type": "function", "function": {**ADD["function"], "strict": True}}
    chosen = {running.engine.tokenizer.convert_tokens_to_ids("<tool_call>"): 100}
    for seed in range(5):
        answer = running.say(
            "1+1?",
            tools=[strict],
            parallel_tool_calls=False,
            logit_bias=chosen,
            seed=seed,
            max_tokens=80,
        ).choices[0]
        assert answer.finish_reason == "tool_calls"
        (call,) = answer.message.tool_calls
        assert json.loads(call.function.arguments)["a"] in (1, 2, 3)


def test_a_call_that_is_cut_off_is_no_text(running: Running) -> None:
    for limit in (2, 8, 16):
        answer = running.say("1+1?", tools=[ADD], tool_choice="required", max_tokens=limit)
        assert answer.choices[0].finish_reason == "length"
        assert not answer.choices[0].message.content


def test_a_schema_that_cannot_be_followed_is_refused(running: Running) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    with pytest.raises(openai.BadRequestError) as refused:
        running.say("?", response_format=form)
    assert refused.value.param == "response_format"
    assert "nonsense" in refused.value.message


@pytest.mark.parametrize("effort", ["low", "high"])
def test_thinking_is_capped_counted_and_followed_by_the_form_asked_for(
    running: Running, effort: str
) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "length", "schema": SCHEMA}}
    for seed in range(3):
        answer = running.say(
            "How far?",
            response_format=form,
            reasoning_effort=effort,
            extra_body={"thinking_token_budget": 8},
            seed=seed,
            max_tokens=90,
        )
        length = json.loads(answer.choices[0].message.content)
        assert length["value"] <= 99
        assert answer.usage.completion_tokens_details.reasoning_tokens <= 8 + 4


def test_a_timeout_gives_what_there_is_by_then(running: Running) -> None:
    answer = running.say("Hi", max_tokens=450, extra_body={"timeout": 0.05}, logit_bias={2: -100})
    assert answer.choices[0].finish_reason == "deadline"
    assert answer.usage.completion_tokens < 450
    assert running.recorded()[0].completions[0].finish_reason == "deadline"


def test_log_probabilities_are_of_the_distribution_asked_for(running: Running) -> None:
    asked = {"seed": 3, "max_tokens": 8, "logprobs": True, "top_logprobs": 3, "top_p": 0.3}
    raw = running.say("Hi", **asked)
    drawn = running.say("Hi", **asked, extra_body={"logprobs_mode": "processed"})
    pairs = zip(raw.choices[0].logprobs.content, drawn.choices[0].logprobs.content, strict=True)
    for one, other in pairs:
        assert one.token == other.token
        assert one.logprob < other.logprob  # what is left out makes the rest likelier
        assert sum(math.exp(top.logprob) for top in other.top_logprobs) <= 1 + 1e-4
    event = running.recorded()[1]
    shown = [entry.logprob for entry in drawn.choices[0].logprobs.content]
    assert shown == pytest.approx(event.completions[0].processed_logprobs)


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_a_format_is_served_with_adapters_and_swaps(
    weights: Weights,
    serve: Callable[..., Running],
    settings: ServingSettings,
    registry: PolicyRegistry,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    """An adapter stands on the base whichever format serves it."""
    if native.library() is None:
        missing("no native library: a C++ compiler is needed")
    chosen = settings.model_copy(update={"model": tiny_model, "weights": weights, "threads": 1})
    engine = load_engine(chosen)
    assert isinstance(engine, LocalEngine)
    lossless = LocalEngine(tiny_model, max_running=2, threads=1)
    assert engine.model_sha256 == lossless.model_sha256

    running = serve(chosen, engine, registry)
    base = running.say("Hi", **GREEDY).choices[0].message.content
    folder = random_adapter(engine, tmp_path / "adapter", seed=1)
    registry.register("default", folder, parent=1, lineage={"feedback": ["f1"]})
    registry.promote("default", 2)
    eventually(lambda: champion(running) == 2)
    assert running.say("Hi", **GREEDY).choices[0].message.content != base
    assert running.say("Hi", model="default@1", **GREEDY).choices[0].message.content == base
    assert {event.sampling["weights"] for event in running.recorded()} == {weights}
