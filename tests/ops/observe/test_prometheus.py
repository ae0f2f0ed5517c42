"""`burnish up --observe`: Prometheus beside the service, reading both and knowing the rules."""

import json
import shutil
from pathlib import Path

import httpx2 as httpx
import pytest
from burnish.ops.settings import SettingsError, UpSettings
from burnish.ops.supervisor import prometheus, services

from tests.conftest import missing
from tests.ops.observe.test_rules_and_dashboards import EXPRESSIONS, RULES
from tests.service import Service


def test_without_prometheus_the_flag_is_refused_in_one_line(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    plan = services.plan_launch(UpSettings(data_dir=tmp_path), observe=True)
    with pytest.raises(SettingsError, match="apt-get install prometheus"):
        services.prometheus_service(plan, plan.prometheus_port or 0)


def test_it_logs_in_with_the_key_where_there_is_one(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(prometheus, "binary", lambda: "prometheus")
    prometheus.prepare(tmp_path / "p", 1, {"serving": "127.0.0.1:2"}, "bk-secret")
    config = json.loads((tmp_path / "p" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    key = Path(job["authorization"]["credentials_file"])
    assert key.read_text() == "bk-secret"
    assert key.stat().st_mode & 0o077 == 0


def test_only_the_intake_answers_it_beside_serving(tmp_path: Path):
    plan = services.plan_launch(UpSettings(data_dir=tmp_path), observe=True)
    assert services.intake_service(plan).env["BURNISH_METRICS_ADDRESS"] == plan.metrics_address
    assert "BURNISH_METRICS_ADDRESS" not in services.worker_service(plan).env
    unobserved = services.plan_launch(UpSettings(data_dir=tmp_path))
    assert "BURNISH_METRICS_ADDRESS" not in services.intake_service(unobserved).env


@pytest.mark.timeout(600)
def test_prometheus_reads_the_service_and_knows_the_rules(tiny_model: Path, tmp_path: Path):
    if shutil.which("prometheus") is None:
        missing("Prometheus is not installed (Debian: prometheus)")
    with Service(tmp_path / "data", tiny_model, "--observe") as service:
        (line,) = [x for x in service.output.read_text().splitlines() if "(Prometheus)" in x]
        address = line.split()[1]

        def up() -> bool:
            try:
                found = ask("query", query="up")
            except httpx.TransportError:
                return False
            return {r["metric"]["job"]: r["value"][1] for r in found["result"]} == {
                "serving": "1",
                "learner": "1",
            }

        def ask(what: str, **params: str):
            answer = httpx.get(f"{address}/api/v1/{what}", params=params, timeout=10).json()
            assert answer["status"] == "success", answer
            return answer["data"]

        service.wait_until(up, 120, "Prometheus does not read both")
        rules = ask("rules")["groups"][0]["rules"]
        assert [rule["name"] for rule in rules] == [rule["alert"] for rule in RULES]
        for expression in EXPRESSIONS.values():
            ask("query", query=expression)
        version = ask("query", query="burnish_policy_version")["result"]
        assert [one["value"][1] for one in version] == ["1"]
        service.wait_until(
            lambda: ask("query", query="burnish_stream_lag_records")["result"], 60, "no lag told"
        )
