"""What a request gets does not depend on who shares its steps, and is what the model says."""

import numpy as np
import pytest
import torch
from burnish.serving.engine import (
    Completion,
    Delta,
    LocalEngine,
    PromptTooLong,
    SamplingParams,
    UnknownAdapter,
)
from burnish.serving.engine.detokenizer import StopStrings, Vocabulary
from burnish.serving.engine.sampler import Sampler

from .conftest import Ask, random_adapter


def test_a_seeded_request_draws_the_same_alone_and_among_others(
    engine: LocalEngine, ask: Ask
) -> None:
    requests = [ask(i, length=3 + 5 * i) for i in range(20)]  # more than run at once
    together = engine.generate_batch(requests)
    alone = [engine.generate_batch([request])[0] for request in requests]
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]


def test_other_rows_filters_do_not_disturb_a_plain_row(engine: LocalEngine, ask: Ask) -> None:
    plain = ask(1)
    others = [
        ask(2, temperature=0.0),
        ask(3, top_p=0.5),
        ask(4, frequency_penalty=1.0, logit_bias={7: -100.0}),
        ask(5, top_k=3, min_p=0.1, temperature=0.7, logprobs=5),
    ]
    alone = engine.generate_batch([plain])[0]
    assert engine.generate_batch([plain, *others])[0].token_ids == alone.token_ids


def test_different_seeds_draw_differently(engine: LocalEngine, ask: Ask) -> None:
    one = ask(1, max_tokens=32)
    answers = engine.generate_batch([one, ask(1, max_tokens=32, seed=2)])
    assert answers[0].token_ids != answers[1].token_ids


@pytest.mark.parametrize("adapter", [None, "default@2"])
def test_logprobs_are_those_of_a_full_forward(
    engine: LocalEngine, ask: Ask, adapter: str | None
) -> None:
    engine.set_adapter_weights("default@2", random_adapter(engine.model, 2))
    requests = [
        ask(i, length=9 * i + 1, adapter=adapter, temperature=0.8, logprobs=3) for i in range(4)
    ]
    for request, answer in zip(requests, engine.generate_batch(requests), strict=True):
        tokens = torch.tensor([[*request.prompt_ids, *answer.token_ids]])
        with torch.no_grad():
            logits = engine.model.forward(tokens, slot=1 if adapter else 0)[0, :-1]
        logits = logits[len(request.prompt_ids) - 1 :]
        chosen = tokens[0, len(request.prompt_ids) :, None]
        for got, scaled in ((answer.logprobs, logits), (answer.processed_logprobs, logits / 0.8)):
            expected = scaled.log_softmax(-1).gather(1, chosen)[:, 0]
            torch.testing.assert_close(torch.tensor(got), expected, atol=1e-4, rtol=0)
        best = logits.log_softmax(-1).topk(3).indices.tolist()
        assert [[token for token, _ in row] for row in answer.top] == best


def test_greedy_takes_the_best_token(engine: LocalEngine, ask: Ask) -> None:
    request = ask(1, temperature=0.0)
    answer = engine.generate_batch([request])[0]
    tokens = torch.tensor([[*request.prompt_ids, *answer.token_ids]])
    best = engine.model.forward(tokens)[0, len(request.prompt_ids) - 1 : -1].argmax(-1)
    assert list(answer.token_ids) == best.tolist()
    assert set(answer.processed_logprobs) == {0.0}


def test_long_prompts_are_computed_in_chunks(tiny_model, ask: Ask, engine: LocalEngine) -> None:
    chunked = LocalEngine(engine.model, max_running=8, prefill_tokens=16)
    requests = [ask(i, length=length) for i, length in enumerate((100, 3, 41, 16, 17))]
    got = [c.token_ids for c in chunked.generate_batch(requests)]
    assert got == [c.token_ids for c in engine.generate_batch(requests)]
    assert chunked.stats().steps_total > engine.stats().steps_total


def test_sampling_follows_the_distribution(engine: LocalEngine, ask: Ask) -> None:
    requests = [ask(1, seed=i, max_tokens=1, top_k=4) for i in range(600)]
    drawn = [c.token_ids[0] for c in engine.generate_batch(requests)]
    logits = engine.model.forward(torch.tensor([requests[0].prompt_ids]))[0, -1]
    best, ids = logits.topk(4)
    for token, p in zip(ids.tolist(), best.softmax(-1).tolist(), strict=True):
        assert drawn.count(token) / 600 == pytest.approx(p, abs=0.08)
    assert set(drawn) <= set(ids.tolist())


def test_penalties_and_bias_steer(engine: LocalEngine, ask: Ask) -> None:
    banned = engine.generate_batch([ask(1, temperature=0.0)])[0].token_ids[0]
    free = ask(1, temperature=0.0, max_tokens=40)
    steered = [
        ask(1, temperature=0.0, max_tokens=40, frequency_penalty=2.0, presence_penalty=2.0),
        ask(1, temperature=0.0, logit_bias={banned: -100.0}),
        ask(1, temperature=0.0, logit_bias={42: 100.0}),
    ]
    plain, penalised, without, only = engine.generate_batch([free, *steered])
    assert len(set(penalised.token_ids)) > len(set(plain.token_ids))
    assert banned not in without.token_ids
    assert set(only.token_ids) == {42}


def test_eos_ends_an_answer_and_spells_nothing(engine: LocalEngine, ask: Ask) -> None:
    eos = min(engine.model.eos_token_ids)
    request = ask(1, logit_bias={eos: 100.0}, ignore_eos=False)
    answer = engine.generate_batch([request])[0]
    assert (answer.token_ids, answer.text, answer.finish_reason) == ((eos,), "", "stop")


def test_a_stop_string_across_tokens_ends_the_text_before_it(engine: LocalEngine, ask: Ask) -> None:
    request = ask(3, max_tokens=40)
    whole = engine.generate_batch([request])[0]
    pieces = [engine.tokenizer.decode([t]) for t in whole.token_ids]
    # A stop string that begins inside one token and ends inside a later one.
    at = next(i for i in range(5, 36) if all(p.isascii() and len(p) for p in pieces[i : i + 3]))
    stop = "".join(pieces[at : at + 3])
    before = whole.text[: whole.text.index(stop)]
    answer = engine.generate_batch([ask(3, max_tokens=40, stop=("never seen", stop))])[0]
    assert answer.text == before
    assert answer.finish_reason == "stop"
    assert answer.token_ids == whole.token_ids[: len(answer.token_ids)]
    assert len(answer.token_ids) < len(whole.token_ids)


def test_text_held_back_for_a_stop_string_is_given_at_the_end(
    engine: LocalEngine, ask: Ask
) -> None:
    whole = engine.generate_batch([ask(3)])[0]
    almost = whole.text[-4:] + "\0"
    assert engine.generate_batch([ask(3, stop=(almost,))])[0].text == whole.text


def test_stop_strings_hold_back_no_more_than_they_must() -> None:
    stops = StopStrings(("END", "ENOUGH"))
    assert stops.push("the E") == ("the ", False)
    assert stops.push("N") == ("", False)
    assert stops.push("TRY") == ("ENTRY", False)
    assert stops.push(" EN") == (" ", False)
    assert stops.push("D of it") == ("", True)


@pytest.mark.parametrize(
    "text", ["naïve ✓ 語 🎈", "<think>12 + 7</think> plain", "  two  spaces\n"]
)
def test_text_is_spelled_token_by_token_without_broken_characters(engine, text: str) -> None:
    vocabulary = Vocabulary(engine.tokenizer, engine.model.hidden_token_ids)
    by_window = Vocabulary(engine.tokenizer, engine.model.hidden_token_ids)
    by_window._bytes = None
    tokens = engine.tokenizer(text)["input_ids"]
    for token_decoder in (vocabulary.token_decoder(), by_window.token_decoder()):
        pieces = [token_decoder.push(token) for token in tokens]
        assert "".join(pieces) + token_decoder.flush() == text
        assert not any("\ufffd" in piece for piece in pieces)


def test_what_can_never_fit_is_refused(engine: LocalEngine, ask: Ask) -> None:
    with pytest.raises(PromptTooLong, match="512 tokens; at most 511"):
        engine.generate_batch([ask(1, length=512)])
    longest = engine.generate_batch([ask(1, length=511, max_tokens=99)])[0]
    assert (len(longest.token_ids), longest.finish_reason) == (1, "length")
    small = LocalEngine(engine.model, num_blocks=1)
    with pytest.raises(PromptTooLong):
        small.generate_batch([ask(1, length=16)])


def test_an_unknown_adapter_is_refused_and_leaves_nothing_behind(
    engine: LocalEngine, ask: Ask
) -> None:
    with pytest.raises(UnknownAdapter, match="default@9"):
        engine.generate_batch([ask(1), ask(2, adapter="default@9")])
    assert engine.stats().waiting == 0


def test_mixed_adapters_in_one_batch_equal_each_alone(engine: LocalEngine, ask: Ask) -> None:
    for version in (2, 3):
        engine.set_adapter_weights(f"default@{version}", random_adapter(engine.model, version))
    adapters = [None, "default@2", "default@3", "default@2", None, "default@3"]
    requests = [ask(1, adapter=adapter, seed=5) for adapter in adapters]
    together = [c.token_ids for c in engine.generate_batch(requests)]
    alone = [engine.generate_batch([request])[0].token_ids for request in requests]
    assert together == alone
    assert len(set(together)) == 3


def test_deltas_join_into_a_completion() -> None:
    deltas = [Delta("a", (1,), (-1.0,), (-2.0,)), Delta("b", (2,), (-3.0,), (-4.0,), (), "stop")]
    assert Completion.join(deltas) == Completion(
        (1, 2), "ab", (-1.0, -3.0), (-2.0, -4.0), (), "stop"
    )
    with pytest.raises(ValueError, match="finish"):
        Completion.join(deltas[:1])


def test_what_was_said_is_less_likely_to_be_said_again(engine: LocalEngine, ask: Ask) -> None:
    plain, penalised = engine.generate_batch(
        [
            ask(1, temperature=0.0, max_tokens=40),
            ask(1, temperature=0.0, max_tokens=40, repetition_penalty=4.0),
        ]
    )
    held = set(ask(1).prompt_ids)

    def repeats(tokens: tuple[int, ...]) -> int:
        return sum(token in held or token in tokens[:at] for at, token in enumerate(tokens))

    assert repeats(penalised.token_ids) < repeats(plain.token_ids)


def test_a_repetition_penalty_divides_what_is_above_zero_and_multiplies_the_rest() -> None:
    sampler = Sampler(1, 4, frozenset(), torch.device("cpu"))
    params = SamplingParams(repetition_penalty=2.0, logprobs=4, logprobs_mode="processed")
    sampler.admit(0, params, 1, drawn=[1], prompt=[0])
    logits = torch.tensor([[2.0, -2.0, 1.0, -1.0]])
    *_, (top,) = sampler.draw(logits, np.array([0]), np.array([1]))
    wanted = torch.tensor([1.0, -4.0, 1.0, -1.0]).log_softmax(-1)
    assert dict(top) == pytest.approx(dict(enumerate(wanted.tolist())))


def test_the_first_delta_tells_what_of_the_prompt_was_cached(loaded, ask: Ask) -> None:
    engine = LocalEngine(loaded, max_running=2, block_size=16)
    first, again = (engine.generate_batch([ask(1, length=40)])[0] for _ in range(2))
    assert (first.cached_tokens, again.cached_tokens) == (0, 32)
    assert again.token_ids == first.token_ids


def test_the_stop_string_that_was_met_is_told() -> None:
    stops = StopStrings(("xyz", "END"))
    assert [stops.push(text) for text in ("a E", "ND")] == [("a ", False), ("", True)]
    assert stops.met == "END"


def test_a_prompts_log_probabilities_are_the_models(engine: LocalEngine, ask: Ask) -> None:
    asked = ask(3, length=40, prompt_logprobs=3, temperature=0.0, max_tokens=4)
    told, *others = engine.generate_batch([asked, ask(1), ask(2, length=30, temperature=0.0)])
    prompt = torch.tensor([asked.prompt_ids])
    wanted = engine.model.forward(prompt).float().log_softmax(-1)[0]
    assert len(told.prompt) == 39
    for place, (logprob, top) in enumerate(told.prompt):
        assert logprob == pytest.approx(wanted[place, asked.prompt_ids[place + 1]].item(), abs=0.02)
        assert [value for _, value in top] == sorted((v for _, v in top), reverse=True)
        best = wanted[place].topk(3)
        assert [v for _, v in top] == pytest.approx(best.values.tolist(), abs=0.02)
    plain, *alone = engine.generate_batch(
        [
            ask(3, length=40, temperature=0.0, max_tokens=4),
            ask(1),
            ask(2, length=30, temperature=0.0),
        ]
    )
    assert told.token_ids == plain.token_ids
    assert [c.token_ids for c in others] == [c.token_ids for c in alone]


def test_a_cached_prompt_is_scored_anew_and_in_chunks(loaded, ask: Ask) -> None:
    engine = LocalEngine(loaded, max_running=2, block_size=16, prefill_tokens=16)
    asked = ask(3, length=60, prompt_logprobs=0, max_tokens=2)
    first, again = (engine.generate_batch([asked])[0] for _ in range(2))
    assert len(first.prompt) == len(again.prompt) == 59
    assert [p for p, _ in first.prompt] == pytest.approx([p for p, _ in again.prompt])
    assert again.cached_tokens == 0
