"""`burnish tasks`, on the pack of the tutorial page: what the page says is what happens."""

import re
import textwrap
from pathlib import Path
from random import Random

import pytest
from burnish.learner.tasks import GeneratorPack
from burnish.learner.tasks.jsonl import JsonlPack
from burnish.ops.cli import app
from burnish.ops.commands import tasks
from rich.console import Console
from typer.testing import CliRunner

PAGE = (Path(__file__).parents[3] / "ops/docs/tasks.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def shop(tmp_path) -> Path:
    """The page's pack, with its checkers."""
    (tmp_path / "shop.jsonl").write_text(blocks("jsonl")[0])
    (tmp_path / "shop_checks.py").write_text(blocks("python")[0])
    return tmp_path / "shop.jsonl"


@pytest.fixture
def run(monkeypatch, tiny_model, tmp_path):
    monkeypatch.setattr(tasks, "console", Console(width=200))
    monkeypatch.setenv("BURNISH_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("BURNISH_MODEL", str(tiny_model))
    return lambda *args: CliRunner().invoke(app, ["tasks", *map(str, args)])


def test_the_pages_pack_has_thirty_tasks_and_no_bad_line(run, shop):
    done = run("lint", shop)
    assert done.exit_code == 0, done.output
    assert "30 tasks in 5 families, 0 bad lines" in done.output


def test_its_checks_know_right_from_wrong(shop):
    found = {task.messages[-1]["content"]: task for task in JsonlPack(shop).tasks}
    assert found["What do 3 bells at 4.50 euros cost?"].is_correct("That is 13.50")
    assert found["When do you close on Saturdays?"].is_correct("We close at 14:00.")
    order = found["Order: 2 tubes. Write it as JSON with item and count."]
    assert order.is_correct('{"item": "tube", "count": 2}')
    assert not order.is_correct("2 tubes")
    assert found["My bike squeaks."].is_correct("Where does it squeak?")
    assert not found["You people are useless."].is_correct("It is your fault.")


def test_the_pages_generator_makes_tasks():
    scope: dict = {}
    exec(textwrap.dedent(blocks("python")[1]), scope)
    pack = GeneratorPack("shop", {"change": scope["change"]})
    task = next(pack.draw(Random(0), "change", "train", 2))
    price, note = map(int, re.findall(r"\d+", task.messages[0]["content"]))
    assert task.is_correct(f"You get {note - price} euros.")


def test_families_are_listed_with_what_the_gate_gets(run, shop):
    done = run("list", shop)
    assert done.exit_code == 0, done.output
    assert re.search(r"shop\s+prices\s+1\s+6\s+2", done.output)
    assert re.search(r"shop\s+orders\s+1, 2\s+5\s+1", done.output)


def test_a_model_tries_them_and_a_broken_checker_is_told(run, shop):
    checkers = shop.parent / "shop_checks.py"
    checkers.write_text(checkers.read_text().replace('"?" in answer', "answer.oops"))
    done = run("try", shop, "--count", "1", "--no-show")
    assert done.exit_code == 0, done.output
    assert re.search(r"orders\s+0\s+1", done.output)
    assert "not used: the checker of manners raised AttributeError" in done.output


def test_bad_lines_and_bad_sources_are_one_line_each(run, shop):
    shop.write_text(shop.read_text() + '{"messages": []}\n')
    done = run("lint", shop.parent)
    assert done.exit_code == 1
    assert "shop.jsonl line 31: " in done.output
    assert "BURNISH_TASKS: gneral: neither a file nor a pack" in str(
        run("list", "gneral").exception
    )
    assert "no family 'x': there are prices" in str(run("try", shop, "--family", "x").exception)
