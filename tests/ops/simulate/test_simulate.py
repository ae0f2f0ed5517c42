"""Whole simulations against a stand-in service that learns the preferred styles."""

import json
from pathlib import Path

import pytest
from burnish.learner.tasks import ember
from burnish.ops.simulate import BadOption, Options, main, traffic

from tests.ops.simulate.stand_in import StandIn, served


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> StandIn:
    service = StandIn(**getattr(request, "param", {}))
    draw = ember.sample
    monkeypatch.setattr(traffic, "POLL_S", 0.05)
    monkeypatch.setattr(ember, "sample", lambda *a, **k: service.remember(draw(*a, **k)))
    return service


def run(service: StandIn, out: Path, **changes) -> tuple[int, dict]:
    quick = {"minutes": 2, "answers": 300, "users": 20, "prompts": 72, "settle_s": 1.0,
             "rate": 0.0, "judged": 1.0, "flip": 0.05, "deviate": 0.0, "late_s": 0.5, "seed": 3}  # fmt: skip
    with served(service.app) as url:
        code = main(Options(url=url, out=out), **{**quick, **changes})
    return code, json.loads((out / "results.json").read_text())


def test_a_service_that_learns_recovers_a_part_of_the_gap(
    stand_in: StandIn, tmp_path: Path
) -> None:
    code, results = run(stand_in, tmp_path)
    assert code == 0
    evaluation = results["evaluation"]
    assert evaluation["prompts"] == 72
    assert (
        evaluation["expected_base"]
        < evaluation["expected_champion"]
        < evaluation["expected_oracle"]
    )
    base, oracle = evaluation["expected_base"], evaluation["expected_oracle"]
    recovered = (evaluation["expected_champion"] - base) / (oracle - base)
    assert evaluation["share"] == pytest.approx(recovered, abs=1e-3)  # kept to four digits
    low, high = evaluation["share_interval"]
    assert low < evaluation["share"] < high
    assert evaluation["style_base"] < evaluation["style_champion"]
    # The stand-in draws correctness from the request's seed, which both versions are sent.
    assert evaluation["skill_difference"] == 0
    assert evaluation["skill_interval"] == [0, 0]
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
