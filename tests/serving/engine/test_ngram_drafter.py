"""Proposals make an answer faster and change not one of its tokens."""

import pytest
from burnish.kernels.loading import load_model
from burnish.kernels.model import LoadedModel
from burnish.serving.engine import LocalEngine, Request, SamplingParams
from burnish.serving.engine.ngram_drafter import NGRAM, NgramDrafter
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import missing

from .conftest import Ask, random_adapter


@pytest.fixture(scope="module", params=["native", "reference"])
def model(request: pytest.FixtureRequest, tiny_model) -> LoadedModel:
    loaded = load_model(tiny_model, native=request.param == "native")
    if request.param == "native" and loaded.native is None:
        missing("no C++ compiler")
    return loaded


def eager(model: LoadedModel, **options) -> LocalEngine:
    """An engine that drafts whenever it can, whether or not that is faster."""
    engine = LocalEngine(model, **{"max_running": 8, **options})
    engine._core._lookup_monitor.record = lambda *_: None  # type: ignore[method-assign]
    return engine


def repetitive(at: int, **params) -> Request:
    """A prompt that says the same over and over, so that there is much to look up."""
    phrase = [5 + (at * 13 + n * 7) % 250 for n in range(5)]
    wanted = {"seed": at, "max_tokens": 60, "ignore_eos": True, **params}
    return Request(f"r{at}", tuple(phrase * 6), SamplingParams(**wanted))


MIXED = [
    repetitive(1, temperature=0.0),
    repetitive(2, temperature=0.2),
    repetitive(3, temperature=0.05, top_p=0.9),
    repetitive(4, top_k=2),
    repetitive(5, temperature=0.0, frequency_penalty=0.5),
    repetitive(6, temperature=0.0, logprobs=2),
    repetitive(7, temperature=0.0, stop=("e",)),
    repetitive(8, temperature=0.0, max_tokens=3),
    repetitive(9, temperature=0.0, ignore_eos=False),
]


def test_answers_are_the_same_with_and_without(model: LoadedModel) -> None:
    without, having = LocalEngine(model, max_running=8, speculative=False), eager(model)
    for requests in (MIXED, MIXED[:1], MIXED[1:4]):
        expected = without.generate_batch(requests)
        got = having.generate_batch(requests)
        assert [a.token_ids for a in got] == [a.token_ids for a in expected]
        assert [(a.text, a.finish_reason) for a in got] == [
            (a.text, a.finish_reason) for a in expected
        ]
        for one, other in zip(got, expected, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
            assert one.processed_logprobs == pytest.approx(other.processed_logprobs, abs=1e-4)
    stats = having.stats()
    assert stats.accepted_total > 30
    assert stats.steps_total < without.stats().tokens_total / 2
    assert without.stats().drafted_total == 0


def test_adapters_chunks_and_want_of_room_change_nothing(model: LoadedModel, ask: Ask) -> None:
    engines = [
        LocalEngine(model, max_running=8, speculative=False),
        eager(model, prefill_tokens=16),
        eager(model, num_blocks=14),
    ]
    for engine in engines:
        engine.set_adapter_weights("p@2", random_adapter(model, 2))
        requests = [
            Request(r.id, r.prompt_ids, r.params, "p@2" if at % 2 else None)
            for at, r in enumerate(MIXED[:4])
        ]
        requests += [ask(at, length=30, temperature=0.0, max_tokens=40) for at in range(4)]
        answers = [a.token_ids for a in engine.generate_batch(requests)]
        engine.unload_adapter("p@2")
        if engine is engines[0]:
            expected = answers
        assert answers == expected  # type: ignore[possibly-undefined]
    assert engines[2].stats().preempted_total > 0
    assert engines[2].stats().free_blocks == 14


@given(
    prompt=st.lists(st.integers(0, 3), min_size=1, max_size=30),
    drawn=st.lists(st.integers(0, 3), max_size=30),
    most=st.integers(0, 9),
)
def test_what_is_proposed_followed_the_same_tokens_before(prompt, drawn, most) -> None:
    """However the history came in, and never more than may be."""
    drafter = NgramDrafter()
    for upto in range(0, len(drawn), 4):
        drafter.propose(prompt, drawn[:upto], most)
    proposed = drafter.propose(prompt, drawn, most)
    assert len(proposed) <= most
    history = [*prompt, *drawn]
    last = history[-NGRAM:]
    earlier = [at for at in range(NGRAM, len(history)) if history[at - NGRAM : at] == last]
    if earlier and len(history) >= NGRAM:
        assert proposed == history[earlier[-1] : earlier[-1] + len(proposed)]
        assert proposed or not most
    else:
        assert proposed == []


def test_misses_are_followed_by_longer_and_longer_rests() -> None:
    drafter, history, proposals = NgramDrafter(), [1, 2, 3, 9, 1, 2, 3], 0
    for _ in range(300):
        proposed = drafter.propose(history[:7], history[7:], 9)
        if proposed:
            proposals += 1
            drafter.update(len(proposed), 0)
        history = [*history, *([4] if len(history) % 4 else [5])]
    assert 2 < proposals < 12
