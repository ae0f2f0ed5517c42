"""Answers that keep to a grammar, whatever the model would rather say."""

import json
import re

import pytest
from burnish.serving.engine import BadGrammar, LocalEngine, json_grammar

from .conftest import Ask

LARK = 'start: "yes" | "no" | /[0-9]{3}/'


def test_the_answer_matches_and_ends_by_itself(engine: LocalEngine, ask: Ask) -> None:
    requests = [ask(i, max_tokens=20, grammar=LARK, ignore_eos=False) for i in range(8)]
    for answer in engine.generate_batch(requests):
        assert re.fullmatch(r"yes|no|[0-9]{3}", answer.text)
        assert answer.finish_reason == "stop"


def test_json_is_spaced_as_models_write_it(engine: LocalEngine, ask: Ask) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"enum": [1, 2]}, "b": {"type": "boolean"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    request = ask(1, max_tokens=60, grammar=json_grammar(schema), ignore_eos=False)
    (answer,) = engine.generate_batch([request])
    assert answer.text == json.dumps(json.loads(answer.text))


def test_neighbours_draw_what_they_would_have_drawn(engine: LocalEngine, ask: Ask) -> None:
    alone = engine.generate_batch([ask(1), ask(2)])
    held = ask(3, grammar=LARK, ignore_eos=False)
    among = engine.generate_batch([ask(1), held, ask(2)])
    assert [among[0].token_ids, among[2].token_ids] == [a.token_ids for a in alone]


def test_a_preempted_answer_goes_on_in_the_grammar(loaded, ask: Ask) -> None:
    tight = LocalEngine(loaded, max_running=4, num_blocks=6)
    digits = "start: /[0-9]{40}/"
    requests = [
        ask(i, length=10, max_tokens=60, grammar=digits, ignore_eos=False) for i in range(4)
    ]
    answers = tight.generate_batch(requests)
    assert tight.stats().preempted_total > 0
    assert all(re.fullmatch(r"[0-9]{40}", answer.text) for answer in answers)


@pytest.mark.parametrize(
    "grammar", ["start: nowhere", "{", "%json", json_grammar({"type": "nonsense"})]
)
def test_a_bad_grammar_is_refused_before_anything_runs(
    engine: LocalEngine, ask: Ask, grammar: str
) -> None:
    with pytest.raises(BadGrammar):
        engine.generate_batch([ask(1), ask(2, grammar=grammar)])
    assert engine.stats().waiting == 0
