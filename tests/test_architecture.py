"""What ARCHITECTURE.md and CONTRIBUTING.md say of the code holds."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from burnish.ops.thumbs_down import PICTURE, STAGES, Stage, as_svg

ROOT = Path(__file__).parents[1]
ROOMS = ("serving", "feedback", "learner", "memory", "kernels", "ops")
LONGEST_WAY = 14  # files from a thumbs-down's POST to the weights that answer


def named_files(document: str) -> list[str]:
    """What is written as code in a document and looks like a file or folder of a room."""
    text = (ROOT / document).read_text()
    pattern = rf"`((?:{'|'.join((*ROOMS, 'tests'))})/[\w./-]*)`"
    return sorted(set(re.findall(pattern, text)))


def imports_of(file: str) -> Iterator[str]:
    """The files of ours that a Python file imports, anywhere in it."""
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("burnish."):
            continue
        module = (node.module or "").removeprefix("burnish.").replace(".", "/")
        yield from (f"{module}.py", *(f"{module}/{alias.name}.py" for alias in node.names))


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"])
def test_every_file_a_document_names_is_there(document: str) -> None:
    missing = [name for name in named_files(document) if not (ROOT / name).exists()]
    assert missing == []


def test_contributing_says_where_ten_kinds_of_change_begin() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    starts = dict(re.findall(r"^\| an? ([\w ]+) \| (.*) \|$", text, re.MULTILINE))
    wanted = {
        "update rule", "memory policy", "route", "kernel", "gate check", "setting", "event field",
        "page view", "benchmark", "client method",
    }  # fmt: skip
    assert wanted <= set(starts)
    for kind, start in starts.items():
        first = re.findall(r"`([^`]+)`", start)[0]
        assert (ROOT / first).exists(), f"to add a {kind} one starts at {first}, which is not there"


def test_every_folder_of_a_room_is_in_the_annotated_tree() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    tree = text.split("```")[1]
    for room in ROOMS:
        assert re.search(rf"^{room}/", tree, re.MULTILINE)
        for folder in sorted(path.parent for path in (ROOT / room).glob("*/__init__.py")):
            line = rf"^  {folder.name}/ +\S"
            assert re.search(line, tree, re.MULTILINE), f"{folder.relative_to(ROOT)} is not there"


def test_the_way_of_a_thumbs_down_is_short() -> None:
    assert len(STAGES) == len({stage.file for stage in STAGES}) <= LONGEST_WAY


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.file)
def test_each_stage_is_there_and_speaks_of_its_type(stage: Stage) -> None:
    code = (ROOT / stage.file).read_text()
    assert re.search(rf"\b{stage.type}\b", code), f"{stage.file} does not mention {stage.type}"


def test_the_way_imports_in_one_direction() -> None:
    way = {stage.file for stage in STAGES}
    reached = {file: set(imports_of(file)) & way - {file} for file in way}
    for _ in way:  # imports of imports, as far as they stay on the way
        for file in way:
            reached[file] |= {far for near in reached[file] for far in reached[near]}
    assert [file for file in way if file in reached[file]] == []


def test_the_picture_is_drawn_from_the_way_as_it_is() -> None:
    assert PICTURE.read_text() == as_svg(), "make docs draws it again"
