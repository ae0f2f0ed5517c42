"""Rules and dashboards ask for what the services tell, and for nothing that has been renamed."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from burnish.learner.database import Database
from burnish.learner.metrics import Metrics as LearnerMetrics
from burnish.ops.supervisor.prometheus import OBSERVE
from burnish.serving.api.metrics import Metrics as ServingMetrics
from prometheus_client import CollectorRegistry

from tests.conftest import missing

DASHBOARDS = sorted((OBSERVE / "dashboards").glob("*.json"))
RULES = yaml.safe_load((OBSERVE / "alerts.yml").read_text())["groups"][0]["rules"]

# Words of PromQL that are no metric; functions are told by their parenthesis.
WORDS = {"by", "on", "or", "and", "group_left", "bool"}
PARTS = {
    "counter": ("_total", "_created"),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "gauge": ("",),
}
# Bounded, whoever uses the service and however many they are.
LABELS = {
    *("route", "status", "operation", "policy", "type", "name", "value", "outcome", "what"),
    *("kind", "topic", "partition", "state", "server", "arm"),
}


def metrics_of(expression: str) -> set[str]:
    """The metrics that a PromQL expression names."""
    plain = re.sub(r'"[^"]*"', "", expression)
    plain = re.sub(r"\{[^}]*\}|\[[^]]*\]", " ", plain)
    plain = re.sub(r"\b(by|on|group_left|ignoring)\s*\([^)]*\)", " ", plain)
    names = re.findall(r"\b[a-z_][a-z0-9_]*\b(?!\s*\()", plain)
    return set(names) - WORDS


def expressions() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for file in DASHBOARDS:
        board = json.loads(file.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{file.stem}: {panel['title']} {target['refId']}", target["expr"]
        for annotation in board["annotations"]["list"]:
            yield f"{file.stem}: {annotation['name']}", annotation["expr"]


EXPRESSIONS = dict(expressions())


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> list[CollectorRegistry]:
    """Of serving and of the learner."""
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('learner')}/experience.db")
    database.migrate()
    return [ServingMetrics().registry, LearnerMetrics(database).registry]


@pytest.fixture(scope="module")
def exported(registries: list[CollectorRegistry]) -> set[str]:
    families = [family for registry in registries for family in registry.collect()]
    return {"up"} | {family.name + part for family in families for part in PARTS[family.type]}


def test_expressions_are_taken_apart_as_meant():
    expression = 'sum by (le, a) (rate(x_total{b="y_total"}[5m])) / on (c) group_left () z > 0.5'
    assert metrics_of(expression) == {"x_total", "z"}


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_every_metric_that_is_asked_for_is_exported(where: str, exported: set[str]):
    named = metrics_of(EXPRESSIONS[where])
    assert named
    assert named <= exported


def test_everything_exported_is_shown_or_watched(registries: list[CollectorRegistry]):
    asked = set().union(*map(metrics_of, EXPRESSIONS.values()))
    families = [family for registry in registries for family in registry.collect()]
    unseen = [f.name for f in families if not {f.name + p for p in PARTS[f.type]} & asked]
    assert unseen == []


def test_no_label_grows_with_people(registries: list[CollectorRegistry]):
    for registry in registries:
        for collector in registry._collector_to_names:
            assert set(getattr(collector, "_labelnames", ())) <= LABELS
        for family in registry.collect():
            for sample in family.samples:
                assert set(sample.labels) - {"le"} <= LABELS


def test_four_dashboards_each_with_an_id_of_its_own():
    assert [file.stem for file in DASHBOARDS] == ["fleet", "learning", "memory", "service"]
    boards = [json.loads(file.read_text()) for file in DASHBOARDS]
    assert len({board["uid"] for board in boards}) == 4
    for board in boards:
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        assert all(p["datasource"]["uid"] == "${datasource}" for p in board["panels"])


def test_every_alert_says_what_is_wrong_and_what_to_do():
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "todo"}


def test_promtool_takes_rules_and_expressions(tmp_path: Path):
    promtool = shutil.which("promtool")
    if promtool is None:
        missing("promtool is not installed (Debian: prometheus)")
    boards = {
        "groups": [
            {
                "name": "dashboards",
                "rules": [
                    {"record": f"checked:{n}", "expr": expr}
                    for n, expr in enumerate(EXPRESSIONS.values())
                ],
            }
        ]
    }
    (tmp_path / "boards.yml").write_text(yaml.safe_dump(boards))
    for file in (OBSERVE / "alerts.yml", tmp_path / "boards.yml"):
        done = subprocess.run(
            [promtool, "check", "rules", str(file)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
