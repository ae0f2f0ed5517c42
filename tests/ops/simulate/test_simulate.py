"""A whole simulated run against a stand-in service that really learns the styles."""

import json
from pathlib import Path

import pytest
from burnish.learner import tasks
from burnish.ops.simulate import BadOption, Options, main

from tests.ops.simulate.standin import StandIn, served


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> StandIn:
    service = StandIn(**getattr(request, "param", {}))
    draw = tasks.sample
    monkeypatch.setattr(tasks, "sample", lambda *a, **k: service.remember(draw(*a, **k)))
    return service


def run(service: StandIn, out: Path, **changes) -> tuple[int, dict]:
    quick = {"minutes": 2, "answers": 600, "users": 20, "prompts": 90, "settle_s": 1.0,
             "judged": 1.0, "flip": 0.05, "deviate": 0.0, "late_s": 0.5, "seed": 3}  # fmt: skip
    with served(service.app) as url:
        code = main(Options(url=url, out=out), **{**quick, **changes})
    return code, json.loads((out / "results.json").read_text())


def test_a_service_that_learns_is_seen_to_go_a_part_of_the_way(
    stand_in: StandIn, tmp_path: Path
) -> None:
    code, results = run(stand_in, tmp_path)
    assert code == 0
    verdict = results["evaluation"]
    assert verdict["prompts"] == 90
    assert verdict["expected_base"] < verdict["expected_champion"] < verdict["expected_oracle"]
    base, oracle = verdict["expected_base"], verdict["expected_oracle"]
    way = (verdict["expected_champion"] - base) / (oracle - base)
    assert verdict["share"] == pytest.approx(way, abs=1e-3)  # kept to four digits
    low, high = verdict["share_interval"]
    assert low < verdict["share"] < high
    low, high = verdict["skill_interval"]
    assert low <= verdict["skill_difference"] <= high
    assert abs(verdict["skill_difference"]) < 0.3  # the stand-in's skill stays; 0.065 is one sigma
    assert results["cycle"]["promotions"] >= 2
    assert 0 < results["cadence"]["included"] <= results["cadence"]["thumbs_down"]
    assert results["cadence"]["median_seconds"] > 0
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "versions.png", "time.png", "families.png"
    }  # fmt: skip


def test_the_first_version_is_the_base_and_later_ones_are_compared_on_the_same_prompts(
    stand_in: StandIn, tmp_path: Path
) -> None:
    _, results = run(stand_in, tmp_path, shadow=1.0, prompts=0, answers=120)
    assert results["evaluation"] is None
    rows = results["versions"]
    assert rows[0]["version"] == 1
    assert all(row["pairs"] == row["answers"] for row in rows)
    assert rows[-1]["base_expected"] is not None


@pytest.mark.parametrize("stand_in", [{"fails_each": 50}], indirect=True)
def test_a_failed_request_is_an_exit_code(stand_in: StandIn, tmp_path: Path) -> None:
    code, results = run(stand_in, tmp_path, prompts=0, answers=120)
    assert code == 1
    assert results["traffic"]["failed"] > 0
    assert "chat with default" in results["traffic"]["failures"][0]


@pytest.mark.parametrize("stand_in", [{"refuses_each": 10}], indirect=True)
def test_a_refusal_with_retry_after_is_waited_out(stand_in: StandIn, tmp_path: Path) -> None:
    code, results = run(stand_in, tmp_path, prompts=0, answers=120)
    assert code == 0
    assert results["traffic"]["refused"] > 0


def test_no_service_is_one_line_and_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(url="http://127.0.0.1:9", out=tmp_path) == 1
    assert "no service at http://127.0.0.1:9" in capsys.readouterr().err


def test_options_out_of_range_are_named() -> None:
    with pytest.raises(BadOption, match="--flip"):
        Options(flip=1.5)
    with pytest.raises(TypeError, match="colour"):
        main(colour="red")
