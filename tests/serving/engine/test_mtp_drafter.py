"""A model's own module drafts tokens, and changes not one of them."""

from pathlib import Path

import pytest
import torch
from burnish.kernels.loading import load_model
from burnish.kernels.model import LoadedModel
from burnish.serving.engine import LocalEngine, Request

from tests.conftest import missing
from tests.mtp_models import FAMILIES, PREFIX, build_mtp_model, change, drop_module

from .conftest import Ask, random_adapter

WAYS = [(family, native) for family in FAMILIES for native in (True, False)]


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: f"{way[0]}-{'nt'[not way[1]]}")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    family, native = request.param
    loaded = load_model(build_mtp_model(tmp_path_factory.mktemp(family), family), native=native)
    if native and loaded.native is None:
        missing("a C++ compiler")
    assert loaded.mtp is not None
    return loaded


def eager(model: LoadedModel, **options) -> LocalEngine:
    """An engine that drafts by the module whenever it can, whether or not that is faster."""
    engine = LocalEngine(model, **{"max_running": 8, **options})
    engine._core._mtp_monitor.record = lambda *_: None  # type: ignore[method-assign]
    engine._core._lookup_monitor.worthwhile = lambda *_: False  # type: ignore[method-assign]
    return engine


def mixed(ask: Ask) -> list[Request]:
    return [
        ask(1, temperature=0.0, max_tokens=40),
        ask(2, length=40, max_tokens=30),
        ask(3, temperature=0.7, top_p=0.9, max_tokens=33),
        ask(4, top_k=2, max_tokens=20),
        ask(5, temperature=0.0, frequency_penalty=0.5),
        ask(6, temperature=0.0, logprobs=2),
        ask(7, temperature=0.0, max_tokens=1),
        ask(8, temperature=0.2, ignore_eos=False, max_tokens=60),
        ask(9, length=16, temperature=0.0, logit_bias={7: 100.0}, max_tokens=50),
    ]


def test_answers_are_the_same_with_and_without(model: LoadedModel, ask: Ask) -> None:
    without, having = LocalEngine(model, max_running=8, speculative=False), eager(model)
    for requests in (mixed(ask), mixed(ask)[:1], mixed(ask)[1:4]):
        expected = without.generate_batch(requests)
        got = having.generate_batch(requests)
        assert [a.token_ids for a in got] == [a.token_ids for a in expected]
        for one, other in zip(got, expected, strict=True):
            assert one.finish_reason == other.finish_reason
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
            assert one.processed_logprobs == pytest.approx(other.processed_logprobs, abs=1e-4)
    assert having.stats().drafted_total > 50
    assert having.stats().free_blocks == having.stats().total_blocks


def test_cuts_adapters_and_want_of_room_change_nothing(model: LoadedModel, ask: Ask) -> None:
    requests = mixed(ask)[:4]
    requests[1] = Request("adapted", requests[1].prompt_ids, requests[1].params, "p@2")
    expected, stats = None, []
    for options in ({"speculative": False}, {"prefill_tokens": 16}, {"num_blocks": 9}):
        engine = eager(model, **options)
        engine.set_adapter_weights("p@2", random_adapter(model, 2))
        answers = [a.token_ids for a in engine.generate_batch(requests)]
        again = [a.token_ids for a in engine.generate_batch(requests)]  # on cached prefixes
        engine.unload_adapter("p@2")
        expected = expected or answers
        assert answers == again == expected
        stats.append(engine.stats())
    assert stats[1].reused_total > 0
    assert stats[2].preempted_total > 0


def test_a_module_that_foresees_saves_steps(tmp_path: Path, ask: Ask) -> None:
    """Of a model whose tokens depend on the last one alone, and a module that knows them: layers that add
    nothing, and a joint that hands the embedding through."""
    folder, wide = build_mtp_model(tmp_path / "model", "glm4_moe"), 64
    silent = {
        f"model.layers.{layer}.{name}.weight": torch.zeros(
            wide, wide if "o_proj" in name else inner
        )
        for layer, inner in ((0, 96), (1, 48), (2, 48))
        for name in ("self_attn.o_proj", *(("mlp.down_proj",) if not layer else ()))
    }
    for layer in (1, 2):
        silent[f"model.layers.{layer}.mlp.shared_experts.down_proj.weight"] = torch.zeros(wide, 48)
        for expert in range(8):
            name = f"model.layers.{layer}.mlp.experts.{expert}.down_proj.weight"
            silent[name] = torch.zeros(wide, 48)
    through = torch.cat([torch.eye(wide), torch.zeros(wide, wide)], dim=1)
    ones = {f"{PREFIX}{name}.weight": torch.ones(wide) for name in ("enorm", "shared_head.norm")}
    ones["model.norm.weight"] = torch.ones(wide)
    change(folder, {**silent, **ones, f"{PREFIX}eh_proj.weight": through})
    requests = [ask(at, max_tokens=60, temperature=float(at % 2)) for at in range(4)]
    without = LocalEngine(folder, max_running=8, speculative=False)
    having = eager(load_model(folder))
    assert [a.token_ids for a in having.generate_batch(requests)] == [
        a.token_ids for a in without.generate_batch(requests)
    ]
    stats = having.stats()
    assert stats.accepted_total > 0.9 * stats.drafted_total
    assert stats.steps_total < 20  # of 60 tokens each, four by four


def test_without_the_module_nothing_is_drafted_by_it(tmp_path: Path, ask: Ask) -> None:
    folder = build_mtp_model(tmp_path / "model", "glm4_moe")
    drop_module(folder)
    engine = eager(load_model(folder))
    engine.generate_batch(mixed(ask))
    assert engine.stats().drafted_total == 0


def test_what_does_not_pay_turns_itself_off(tmp_path: Path, ask: Ask) -> None:
    """A random module foresees no more than chance does."""
    engine = LocalEngine(build_mtp_model(tmp_path / "model", "glm4_moe"), max_running=8)
    engine._core._lookup_monitor.worthwhile = lambda *_: False  # type: ignore[method-assign]
    records = engine._core._mtp_monitor.record

    def record(drafted: bool, sequences: int, tokens: int, _: float) -> None:
        records(drafted, sequences, tokens, 0.02 if drafted else 0.01 * tokens)

    engine._core._mtp_monitor.record = record  # type: ignore[method-assign]
    engine.generate_batch([ask(at, temperature=0.0, max_tokens=300) for at in range(1)])
    assert engine.stats().drafted_total < 40
