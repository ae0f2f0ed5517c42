"""How the engine benchmark counts, merges and judges. Measuring itself takes minutes."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from burnish.kernels.loading import load_model
from burnish.ops.bench import engine
from burnish.ops.bench.lib import results, shapes
from burnish.ops.bench.lib.speed import goals, loads, measuring, report, roofline, ways
from burnish.ops.bench.lib.speed.contest import Plan, contestants
from burnish.ops.bench.lib.speed.gguf_file import FORMATS, write_gguf
from burnish.ops.bench.lib.speed.measuring import Measuring, latencies, repeated
from burnish.ops.bench.lib.speed.one_stream import resident_mb
from burnish.ops.bench.lib.speed.peers import Timing
from burnish.ops.bench.lib.speed.roofline import Work

DENSE = {
    "model_type": "llama",
    "vocab_size": 4096,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 96,
    "tie_word_embeddings": True,
}
MIXTURE = {
    **DENSE,
    "model_type": "qwen3_moe",
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="module", params=[DENSE, MIXTURE], ids=["dense", "mixture"])
def tiny(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    return request.param, shapes.build(request.param, tmp_path_factory.mktemp("tiny") / "model")


# -- what a step has to do -------------------------------------------------------------------


def test_work_counts_the_weights_that_the_model_has(tiny: tuple[dict[str, Any], Path]) -> None:
    shape, folder = tiny
    work = Work.of(shape)
    model = load_model(folder, native=False).model
    matrices = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    table = 0 if shape["tie_word_embeddings"] else model.get_input_embeddings().weight.numel()
    assert work.shared + work.experts * work.expert == matrices - table


@pytest.mark.parametrize(("shape", "millions"), [("S", 5), ("M", 39), ("D", 134), ("L", 428)])
def test_the_shapes_read_what_their_names_say(shape: str, millions: int) -> None:
    assert Work.of(shapes.SHAPES[shape]).active / 1e6 == pytest.approx(millions, abs=1)


def test_more_rows_read_more_experts_but_never_more_than_all() -> None:
    work = Work.of(MIXTURE)
    read = [work.bytes_per_step("bfloat16", rows, 0) for rows in (1, 2, 8, 1000)]
    assert read == sorted(read)
    assert read[0] == pytest.approx(2 * work.active)
    assert read[-1] == pytest.approx(2 * (work.shared + work.experts * work.expert))


def test_the_cache_counts_for_each_row() -> None:
    work = Work.of(DENSE)
    per_token = 2 * 2 * 2 * 32 * 2  # layers, keys and values, heads, width, bytes
    longer = work.bytes_per_step("int8", 3, 11) - work.bytes_per_step("int8", 3, 10)
    assert longer == 3 * per_token


def test_a_prompt_costs_its_tokens_and_one_row_of_logits() -> None:
    work = Work.of(DENSE)
    assert work.flops_of_prompt(1) == pytest.approx(work.flops_per_step(1, 0.5))
    assert work.flops_of_prompt(100) < 100 * work.flops_per_step(1, 100)


def test_a_machine_is_as_fast_as_it_ever_was() -> None:
    busy = {"read_gb_s": 5.0, "gflops": 120.0, "how": "x"}
    assert roofline.best_of(MACHINE, busy) == {"read_gb_s": 10.0, "gflops": 120.0, "how": "x"}
    assert roofline.best_of({}, busy) == busy
    assert roofline.best_of(busy, {"error": "x"}) == busy


# -- models for everyone ---------------------------------------------------------------------


def test_a_model_is_built_once(tiny: tuple[dict[str, Any], Path]) -> None:
    shape, folder = tiny
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert shapes.build(shape, folder) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written


def test_a_built_model_is_bfloat16_and_reads_long_prompts(
    tiny: tuple[dict[str, Any], Path],
) -> None:
    model = load_model(tiny[1], dtype="bfloat16", native=False)
    assert model.dtype == torch.bfloat16
    assert model.max_model_len > loads.LONG


@pytest.mark.parametrize("form", FORMATS)
def test_a_gguf_file_holds_the_same_weights(tiny: tuple[dict[str, Any], Path], form: str) -> None:
    gguf = pytest.importorskip("gguf")
    shape, folder = tiny
    tensors = {t.name: t for t in gguf.GGUFReader(write_gguf(folder, form)).tensors}
    model = load_model(folder, native=False).model
    found = gguf.quants.dequantize(
        tensors["token_embd.weight"].data, tensors["token_embd.weight"].tensor_type
    )
    table = model.get_input_embeddings().weight.float().numpy()
    allowed = {"bf16": 1e-6, "q8_0": 0.01, "q4_0": 0.15}[form] * np.abs(table).max()
    assert np.abs(found - table).max() <= allowed
    assert ("output.weight" in tensors) is not shape["tie_word_embeddings"]
    numbers = sum(int(np.prod(t.shape)) for t in tensors.values())
    assert numbers == sum(p.numel() for p in model.parameters())


def test_llama_cpp_computes_the_same_logits(tiny: tuple[dict[str, Any], Path]) -> None:
    """Or we would measure it on another model: rotations and experts are laid out otherwise there."""
    pytest.importorskip("llama_cpp", reason="extra not installed")
    from burnish.ops.bench.lib.speed import llama_cpp

    _, folder = tiny
    tokens = np.random.default_rng(0).integers(3, 4096, 24)
    logits = llama_cpp.last_logits(folder, "bf16", tokens)
    model = load_model(folder, dtype="float32", native=False)
    expected = model.forward(torch.from_numpy(tokens)[None])[0, -1].numpy()
    assert np.corrcoef(logits, expected)[0, 1] > 0.999


# -- measuring -------------------------------------------------------------------------------


def told(seconds: float, prefill: float | None = None) -> Timing:
    return Timing(seconds, prefill, 1.0, 100, firsts=(0.1, 0.3), gaps=(0.01, 0.03))


def test_rounds_go_on_until_the_time_is_up_and_there_are_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = itertools.count()
    monkeypatch.setattr(measuring, "time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    assert len(repeated(lambda: told(1), 2, 5)) == 6
    assert len(repeated(lambda: told(1), 2, 0)) == 2


def test_a_peer_that_tells_its_first_token_is_not_asked_for_it() -> None:
    asked: list[tuple[tuple[int, ...], int]] = []

    def peer(prompts: np.ndarray, new: int) -> Timing:
        asked.append((prompts.shape, new))
        return Timing(3.0, 1.0, 2.0, 200)

    found = Measuring(100, 1, 0).decode(peer, loads.Load(prompt=50, new=10))
    assert found["8"] == {"decode": 100.0, "prefill": 400.0}
    assert {new for (rows, length), new in asked if length == 50} == {10}


def test_the_others_are_timed_for_one_token_as_well() -> None:
    def peer(prompts: np.ndarray, new: int) -> Timing:
        return Timing(1.0 + (new - 1) * 0.5)

    found = Measuring(100, 1, 0).decode(peer, loads.Load(prompt=50, new=10))
    assert found["1"] == {"decode": 2.0, "prefill": 50.0}
    assert found["8"] == {"decode": 16.0, "prefill": 400.0}


def test_latencies_are_percentiles_of_all_rounds() -> None:
    found = latencies([told(1), told(2)])
    assert found["first_token_ms"]["p50"] == 200.0
    assert found["gap_ms"]["p99"] == pytest.approx(30.0)
    assert latencies([Timing(1.0)]) == {}


def test_an_instruction_set_measures_ours_and_the_peers_all_others(tmp_path: Path) -> None:
    plan = Plan("S", "S", "avx2", 2, ("bfloat16", "int4"))
    plan.write(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == plan
    ours = [name for name, _ in contestants(plan)]
    assert ours[:2] == ["burnish bfloat16", "burnish int4"]
    assert all(name.startswith("burnish") for name in ours)
    peers = [name for name, _ in contestants(Plan("S", "S", loads.PEERS, 2, ("bfloat16",)))]
    assert "transformers generate" in peers
    assert not any(name.startswith("burnish") for name in peers)
    alone = Plan("S", "S", "avx2", 2, ("bfloat16",), parts=("fresh",))
    assert [name for name, _ in contestants(alone)] == ["burnish bfloat16, candidate"]


def test_memory_is_split_into_anonymous_and_of_files() -> None:
    status = (
        "Name:\tx\nVmRSS:\t 3000 kB\nRssAnon:\t 1000 kB\nRssFile:\t 2000 kB\nRssShmem:\t 0 kB\n"
    )
    assert resident_mb(status) == {"total": 3.1, "anonymous": 1.0, "file": 2.0, "shared": 0.0}


def test_the_chosen_way_is_held_to_the_other() -> None:
    native = ways.compared("native", 0.5, 1.0)
    assert (native["times_pytorch"], native["times_other"]) == (2.0, 2.0)
    pytorch = ways.compared("pytorch", 2.0, 1.0)
    assert (pytorch["times_pytorch"], pytorch["times_other"]) == (1.0, 2.0)
    mistaken = ways.compared("pytorch", 0.5, 1.0)
    assert mistaken["times_other"] == 0.5
    uncovered = ways.compared("pytorch", None, 1.0)
    assert (uncovered["native_ms"], uncovered["times_other"]) == (None, 1.0)


# -- results ---------------------------------------------------------------------------------


def test_a_later_run_replaces_what_it_measured_and_keeps_the_rest() -> None:
    before = {"shapes": {"S": {"avx2": {"a": 1, "b": {"error": "x", "c": 2}}}, "M": {}}}
    later = {"shapes": {"S": {"avx2": {"a": 3, "b": {"d": 4}}}}}
    both = {"shapes": {"S": {"avx2": {"a": 3, "b": {"d": 4}}}, "M": {}}}
    assert results.merged(before, later) == both
    assert results.merged(later, before)["shapes"]["S"]["avx2"]["b"] == {"error": "x", "c": 2}


def test_another_machine_or_commit_is_named() -> None:
    machine = {"cpu": "A", "cores": 2, "commit": "1", "packages": {}, "load_1m": 1}
    assert results.differences(machine, {**machine, "commit": "1-dirty", "load_1m": 2}) == []
    assert results.differences(machine, {**machine, "cores": 4}) == ["cores was 2 and is 4"]


def test_an_earlier_file_is_gone_on_with_only_if_it_fits(tmp_path: Path) -> None:
    figures = {"threads": 2, "machines": {}, "shapes": {"S": {"avx2": {"contestants": {}}}}}
    path = results.write_results("engine", figures, tmp_path)
    assert engine._earlier(path, 2) == figures
    assert engine._earlier(path, 4)["shapes"] == {}
    content = json.loads(path.read_text())
    content["machine"]["cpu"] = "another"
    path.write_text(json.dumps(content))
    assert engine._earlier(path, 2)["shapes"] == {}


def measured(decode: float, prefill: float = 1000.0, long: float = 800.0) -> dict[str, Any]:
    rows = {str(n): {"decode": decode * n} for n in loads.CONCURRENT}
    return {**rows, "prompts": {"512": prefill, "4096": long}}


MACHINE = {"read_gb_s": 10.0, "gflops": 100.0}


def run_of(target: str, **cells: Any) -> dict[str, Any]:
    """Results of shape S on one target, ours twice as fast as llama.cpp at every concurrency."""
    ours = {
        "burnish bfloat16": measured(200.0),
        "burnish bfloat16, 2 adapters": measured(180.0),
        "burnish bfloat16, candidate": {"fresh": 80.0},
        "burnish int8": {"error": "RuntimeError: gone"},
    }
    peers = {
        "llama.cpp bf16": measured(100.0),
        "llama.cpp q8_0": measured(100.0),
        "transformers generate, no adapter": {"fresh": 20.0},
        "transformers generate, candidate": {"fresh": 5.0},
    }
    steps = {"1": {"times_other": 2.0}, "64": {"times_other": 0.9}}
    shape = {
        target: {"contestants": ours, "steps": steps, **cells},
        "peers": {"contestants": peers},
    }
    found = {"threads": 2, "machines": {target: MACHINE}, "shapes": {"S": shape}}
    return {**found, "shares": roofline.shares(found)}


def verdicts(found: dict[str, Any]) -> dict[str, tuple[float | None, str, bool]]:
    return {s.line: (s.value, s.goal, s.met) for s in goals.lines(found)}


@pytest.mark.parametrize(("target", "met"), [("avx2", True), ("avx512", True)])
def test_goals_follow_the_instruction_set(target: str, met: bool) -> None:
    shown = verdicts(run_of(target))
    goal = {"avx2": ">= 1.3", "avx512": ">= 2"}[target]
    assert shown[f"{target}: S, decode at 1, times llama.cpp bf16"] == (2.0, goal, met)
    assert shown[f"{target}: S, decode at 8, times llama.cpp bf16"][2] is False


def test_ours_held_to_avx2_is_compared_with_peers_that_are_held_too() -> None:
    found = run_of("avx2")
    held = {"llama.cpp bf16": {"1": {"decode": 1.0}}}
    found["shapes"]["S"][loads.HELD_PEERS] = {"contestants": held}
    shown = verdicts(found)
    assert not any(line.startswith("peers") for line in shown)
    ours = found["shapes"]["S"]["avx2"]["contestants"]["burnish bfloat16"]["1"]["decode"]
    assert shown["avx2: S, decode at 1, times llama.cpp bf16"][0] == ours
    assert shown["avx2: S, decode at 8, times llama.cpp bf16"][0] is not None, "of the other peers"


def test_what_was_not_measured_is_shown_as_not_met() -> None:
    shown = verdicts(run_of("avx2"))
    assert shown["avx2: D, training step, times PyTorch's"] == (None, ">= 1.2", False)
    assert shown["avx2: int8, decode at 1, times llama.cpp q8_0"] == (None, ">= 1", False)


def test_the_worst_of_several_is_shown_and_named() -> None:
    shown = verdicts(run_of("avx2"))
    way = "avx2: the chosen way, times the other's, 1 to 64 rows (S at 64, the worst of 2)"
    assert shown[way] == (0.9, ">= 0.95", False)
    mixed = "avx2: two adapters mixed, loss of decode (S at 8, the worst of 2)"
    assert shown[mixed] == (0.1, "<= 0.15", True)


def test_fresh_answers_are_held_to_the_faster_peer() -> None:
    shown = verdicts(run_of("avx2"))
    assert shown["avx2: S, fresh answers, times transformers generate"] == (4.0, ">= 8", False)


def test_a_slower_memory_lowers_the_goal_of_one_stream() -> None:
    served = {"model": "m", "tokens_per_s": 30.0, "resident_mb": {"total": 650.0}}
    shown = verdicts({**run_of("avx2"), "one stream": served})
    told = "m, one stream over HTTP, tokens a second"
    assert shown[told] == (30.0, ">= 26.7", True)
    assert shown["m, resident MB of the serving process"] == (650.0, "<= 700", True)


def test_shares_hold_peers_to_the_best_instruction_set() -> None:
    found = run_of("avx2")
    work = Work.of(shapes.SHAPES["S"])
    read = work.bytes_per_step("bf16", 1, loads.LOADS["S"].context)
    share = found["shares"]["S"]["peers"]["llama.cpp bf16"]
    assert share["bandwidth"] == pytest.approx(100 * read / 10e9, abs=1e-3)
    assert 0 < share["flops"] < 1
    assert "burnish int8" in found["shares"]["S"]["avx2"]


def test_the_report_draws_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    found = run_of("avx2")
    report.print_shape(found, "S")
    report.print_must_show(goals.lines(found))
    report.plot_speeds(found, tmp_path / "engine.png")
    report.plot_roofline(found, tmp_path / "roofline.png")
    assert {p.name for p in tmp_path.iterdir()} == {"engine.png", "roofline.png"}
    said = capsys.readouterr().out
    assert "RuntimeError: gone" in said
    assert "not measured" in said
