"""Properties of every family: demonstrations pass, wrong answers fail, splits are disjoint."""

import json
import random
import subprocess
import sys
from collections import Counter

import pytest
from burnish.learner.tasks.ember import FAMILIES, STYLES, demonstrate, is_correct, sample, style_of
from burnish.learner.tasks.ember.core import TaskError, UnknownFamily, UnknownStyle
from hypothesis import given, settings
from hypothesis import strategies as st

families = st.sampled_from(sorted(FAMILIES))
seeds = st.integers(0, 2**32)
levels = st.sampled_from([1, 2, 3])
styles = st.sampled_from(STYLES)
quick = settings(max_examples=300, deadline=None)


def shown(task, style, rng):
    message = demonstrate(task, style, rng)
    return message["content"], message.get("tool_calls")


def test_there_are_at_least_a_dozen_families_and_three_styles():
    assert len(FAMILIES) >= 12
    assert len(STYLES) >= 3


@quick
@given(families, levels, seeds, styles)
def test_a_demonstration_is_right_and_its_style_is_read_back(family, level, seed, style):
    rng = random.Random(seed)
    task = sample(rng, family, rng.choice(["train", "heldout"]), level)
    text, calls = shown(task, style, rng)
    assert is_correct(task, text, calls)
    assert style_of(task, text) == style


@quick
@given(families, seeds, styles)
def test_a_thought_before_the_answer_changes_neither_correctness_nor_style(family, seed, style):
    rng = random.Random(seed)
    task = sample(rng, family)
    text, calls = shown(task, style, rng)
    thought = f"<think>\n{task.reason}, so maybe 7\n</think>\n{text}"
    assert is_correct(task, thought, calls)
    assert style_of(task, thought) == style


@quick
@given(families, seeds, styles)
def test_the_answer_to_another_question_is_wrong(family, seed, style):
    rng = random.Random(seed)
    task, other = sample(rng, family), sample(rng, family)
    right = {task.answer, *task.also}
    text, calls = shown(other, style, rng)
    if other.answer not in right and not right & set(other.also):
        assert not is_correct(task, text, calls)


@quick
@given(families, seeds)
def test_listing_candidates_is_never_right(family, seed):
    rng = random.Random(seed)
    task, other = sample(rng, family), sample(rng, family)
    if other.answer in (task.answer, *task.also):
        return
    for joined in (" ", ". ", ", ", " or ", "! ", "\n", ", so ", ". So the answer is "):
        assert not is_correct(task, f"{other.answer}{joined}{task.answer}{joined}{other.answer}")
        assert not is_correct(task, f"{task.answer}{joined}{other.answer}")


@quick
@given(families, seeds)
def test_the_same_seed_draws_the_same_task_and_answer(family, seed):
    a, b = random.Random(seed), random.Random(seed)
    task = sample(a, family)
    assert task == sample(b, family)
    assert demonstrate(task, "friendly", a) == demonstrate(task, "friendly", b)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_train_and_heldout_never_share_a_prompt(family):
    rng = random.Random(0)
    train = {sample(rng, family, "train").key for _ in range(300)}
    heldout = {sample(rng, family, "heldout").key for _ in range(100)}
    assert not train & heldout


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_has_enough_different_prompts_to_generalise_from(family):
    rng = random.Random(1)
    assert len({sample(rng, family).key for _ in range(300)}) > 150


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_prompts_and_answers_are_short_chats_ending_in_a_question(family):
    rng = random.Random(2)
    for _ in range(50):
        task = sample(rng, family)
        assert task.messages[-1]["role"] in ("user", "tool")
        assert len(task.key) < 1500
        for style in STYLES:
            assert len(shown(task, style, rng)[0].split()) < 45
        json.dumps(task.messages)


def test_families_are_drawn_evenly_when_none_is_named():
    rng = random.Random(3)
    drawn = Counter(sample(rng).family for _ in range(100 * len(FAMILIES)))
    assert drawn.keys() == set(FAMILIES)
    assert min(drawn.values()) > 60
    assert max(drawn.values()) < 140


def test_an_unknown_family_or_style_is_named():
    with pytest.raises(UnknownFamily, match="knitting"):
        sample(random.Random(0), "knitting")
    task = sample(random.Random(0), "units")
    with pytest.raises(UnknownStyle, match="rude"):
        demonstrate(task, "rude", random.Random(0))
    assert issubclass(UnknownFamily, TaskError)


def test_a_calculator_call_must_be_the_one_right_call():
    task = sample(random.Random(4), "tool_call", level=1)
    call = json.loads(task.answer)

    def said(*calls):
        return "".join(f"<tool_call>{json.dumps(c)}</tool_call>" for c in calls)

    wrong = {**call, "arguments": {key: "1 + 1" for key in call["arguments"]}}
    assert is_correct(task, said(call))
    assert not is_correct(task, said(wrong))
    assert not is_correct(task, said(call, wrong))
    assert not is_correct(task, said(call, call))
    assert not is_correct(task, "<tool_call>{not json</tool_call>")
    assert not is_correct(task, "I call it.")
    assert is_correct(task, "", [{"type": "function", "function": call}])
    assert not is_correct(task, "", [])


def test_a_call_is_no_answer_where_words_are_wanted():
    task = sample(random.Random(5), "tool_result")
    assert not is_correct(task, f"<tool_call>{{}}</tool_call>{task.answer}")


def test_the_task_folder_needs_neither_torch_nor_transformers():
    code = "import sys, burnish.learner.tasks.ember; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
