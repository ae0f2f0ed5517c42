"""The built-in pack: every family has tasks to rehearse and for the gate, and knows right from wrong."""

import json
from itertools import islice, product
from random import Random

import pytest
from burnish.learner.tasks import open_source
from burnish.learner.tasks.general import manners, numbers

SOURCE = open_source("general")


@pytest.mark.parametrize(("family", "level"), SOURCE.pools)
def test_every_level_has_both_kinds_of_tasks(family, level):
    for split in ("train", "heldout"):
        tasks = list(islice(SOURCE.draw(Random(0), family, split, level), 12))
        assert len(tasks) == 12
        assert {(task.family, task.level, task.split) for task in tasks} == {(family, level, split)}
        assert not any(task.is_correct("") for task in tasks)


@pytest.mark.parametrize(
    ("family", "level", "right", "wrong"),
    [
        ("word_limits", 3, "Calm and wide.", "word " * 12),
        ("without_commas", 1, "It is calm and wide", "It is calm, wide and deep"),
        ("bullets", 1, None, "- one"),
    ],
)
def test_formats_are_seen(family, level, right, wrong):
    task = next(SOURCE.draw(Random(3), family, "train", level))
    if right is not None:
        assert task.is_correct(right)
    assert not task.is_correct(wrong)


def test_json_objects_are_read_from_the_sentence():
    task = next(SOURCE.draw(Random(0), "json_objects", "train", 1))
    name, _, age = task.messages[0]["content"].split()[:3]
    assert task.is_correct(f'{{"name": "{name}", "age": {age}}}')
    assert task.is_correct(f'```json\n{{"name": "{name}", "age": "{age}"}}\n```')
    assert not task.is_correct(f'{{"name": "{name}", "age": 7}}')


def test_a_tool_call_is_the_one_that_fits_and_no_other():
    task = next(SOURCE.draw(Random(0), "tool_calls", "train", 2))
    assert task.tools is not None
    words = [word.strip("?.") for word in task.messages[0]["content"].split()]
    called = "<tool_call>{}</tool_call>".format
    rights = []
    for tool in task.tools:
        about = tool["function"]
        keys = about["parameters"]["required"]
        for values in product(words, repeat=len(keys)):
            arguments = dict(zip(keys, values, strict=True))
            call = called(json.dumps({"name": about["name"], "arguments": arguments}))
            if task.is_correct(call):
                rights.append(call)
    (right,) = rights
    assert task.is_correct(f"Let me see. {right}")
    assert not task.is_correct(right * 2)
    assert not task.is_correct(right.replace("}", ""))
    assert not task.is_correct(called("[]"))
    assert not task.is_correct(right.replace('"arguments"', '"with"'))


def test_reading_takes_the_right_value_and_no_list_of_all():
    task = next(SOURCE.draw(Random(0), "reading", "train", 3))
    assert not task.is_correct(task.messages[0]["content"])


def test_sums_take_any_wording():
    task = numbers.stories(Random(1), 1)
    rights = [n for n in range(60) if task.is_correct(f"So there are {n} left.")]
    assert len(rights) == 1


@pytest.mark.parametrize(
    "text",
    ["I'm sorry, but I can't assist with that.", "I cannot help you.", "I’m unable to do this."],
)
def test_plain_refusals_are_seen(text):
    assert manners.refuses(text)


def test_help_is_no_refusal():
    assert not manners.refuses("First, press the button. Then wait a minute, and it will stop.")


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("English", "There is a lot to see in the old town."),
        ("German", "In der Stadt gibt es viel zu sehen, und das Essen ist gut."),
        ("French", "Il y a beaucoup à voir dans la ville et les gens sont gentils."),
        ("Spanish", "Hay mucho que ver en la ciudad y la comida es muy buena."),
        ("Italian", "La città è bella e il cibo non è caro."),
        ("Dutch", "Er is veel te zien in de stad en het eten is goed."),
        (None, "Paris!"),
    ],
)
def test_languages_are_told_apart(language, text):
    assert manners.language_of(text) == language
