"""Which of several servers gets a request: load against what a server has seen of a prompt."""

from dataclasses import dataclass, field

import pytest
from burnish.serving.engine.vllm.routing import BLOCK, REMEMBERED, SLACK, Prompt, SeenPrompts, pick


@dataclass
class Candidate:
    load: int = 0
    turn: int = 0
    seen: SeenPrompts = field(default_factory=SeenPrompts)

    def sees(self, *prompts: Prompt) -> "Candidate":
        for prompt in prompts:
            self.seen.add(prompt)
        return self


def prompt(*parts: int, adapter: str | None = None) -> Prompt:
    """A prompt of so many blocks as parts are named; equal parts are equal blocks."""
    return Prompt.of([part for part in parts for _ in range(BLOCK)], adapter)


def test_the_least_loaded_server_is_picked_and_of_equals_the_one_picked_longest_ago() -> None:
    idle, busy = Candidate(load=1, turn=9), Candidate(load=2, turn=1)
    assert pick([busy, idle], prompt(1)) is idle
    older = Candidate(load=1, turn=3)
    assert pick([idle, older], prompt(1)) is older


def test_a_server_that_has_seen_the_prompt_is_preferred_until_it_is_notably_busier() -> None:
    fresh = Candidate()
    for load, is_picked in ((SLACK - 1, True), (SLACK + 1, False)):
        knowing = Candidate(load=load, turn=1).sees(prompt(1, 2))
        assert (pick([fresh, knowing], prompt(1, 2)) is knowing) == is_picked


def test_a_part_of_the_prompt_is_worth_that_part() -> None:
    half = Candidate(load=SLACK // 2 - 1, turn=1).sees(prompt(1, 2))
    busier = Candidate(load=SLACK // 2 + 1, turn=1).sees(prompt(1, 2))
    wanted = prompt(1, 2, 3, 4)
    assert half.seen.share(wanted) == 0.5
    assert pick([Candidate(), half], wanted) is half
    idle = Candidate()
    assert pick([idle, busier], wanted) is idle


def test_among_busy_servers_a_difference_counts_less() -> None:
    knowing = Candidate(load=100 + SLACK + 40).sees(prompt(1))
    assert pick([Candidate(load=100), knowing], prompt(1)) is knowing


def test_whoever_holds_the_longest_beginning_goes_on_with_a_conversation() -> None:
    system = Candidate(turn=0).sees(prompt(1, 7))
    conversation = Candidate(turn=1).sees(prompt(1, 2, 3))
    assert pick([system, conversation], prompt(1, 2, 3, 4)) is conversation


def test_only_what_begins_alike_is_shared() -> None:
    seen = Candidate().sees(prompt(1, 2)).seen
    assert seen.share(prompt(2, 1)) == 0
    assert seen.share(prompt(1, 3)) == 0.5
    assert seen.share(Prompt.of([1] * (BLOCK - 1), None)) == 0
    assert seen.share(Prompt.of([], None)) == 0


def test_another_version_shares_nothing() -> None:
    seen = Candidate().sees(prompt(1, 2, adapter="p@2")).seen
    assert seen.share(prompt(1, 2, adapter="p@3")) == 0
    assert seen.share(prompt(1, 2)) == 0
    assert seen.share(prompt(1, 2, adapter="p@2")) == 1


def test_the_oldest_is_forgotten_first_and_an_end_before_its_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("burnish.serving.engine.vllm.routing.REMEMBERED", 5)
    assert REMEMBERED > 5
    old, new = prompt(1, 2, 3), prompt(4, 5, 6)
    seen = Candidate().sees(old, new).seen
    assert seen.share(new) == 1
    assert seen.share(old) == pytest.approx(2 / 3)
    seen.clear()
    assert seen.share(new) == 0
