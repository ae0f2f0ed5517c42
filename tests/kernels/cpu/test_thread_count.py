"""All threads while they are faster, one while the machine is busy, and little time lost on trying."""

import random

import pytest
from burnish.kernels.cpu.thread_count import ThreadCount


def run(count: ThreadCount, steps: int, seconds: dict[int, float], tokens: int = 1) -> list[int]:
    """Threads of so many steps that take `seconds` by their threads."""
    chosen = []
    for _ in range(steps):
        threads = count.choose(tokens, 2)
        count.record(tokens, threads, 2, seconds[threads])
        chosen.append(threads)
    return chosen


@pytest.mark.parametrize(("seconds", "faster"), [({1: 4.0, 2: 3.0}, 2), ({1: 0.5, 2: 20.0}, 1)])
def test_the_faster_count_is_used_and_the_other_costs_a_fiftieth(
    seconds: dict[int, float], faster: int
) -> None:
    count = ThreadCount()
    run(count, 2, seconds)  # each is timed once
    chosen = run(count, 20_000, seconds)
    spent = sum(seconds[threads] for threads in chosen)
    assert spent <= 1.03 * seconds[faster] * len(chosen)
    assert set(chosen) == {1, 2}  # what was slower may have become faster


def test_it_turns_to_one_thread_at_the_first_stall_and_back_once_it_is_over() -> None:
    count, quiet, busy = ThreadCount(), {1: 0.5, 2: 0.3}, {1: 0.55, 2: 20.0}
    run(count, 100, quiet)
    assert run(count, 20, busy).count(2) <= 3
    run(count, 2000, busy)
    back = run(count, 20_000, quiet)
    assert back[2000:].count(2) > 17_000


def test_noise_moves_it_little() -> None:
    count, noise, chosen = ThreadCount(), random.Random(0), []
    for _ in range(2000):
        threads = count.choose(8, 2)
        count.record(8, threads, 2, {1: 5.0, 2: 3.0}[threads] * noise.uniform(0.9, 1.3))
        chosen.append(threads)
    assert chosen.count(2) > 1900


def test_sizes_are_told_apart_and_one_allowed_thread_is_one() -> None:
    count = ThreadCount()
    run(count, 50, {1: 1.0, 2: 5.0}, tokens=1)
    assert run(count, 50, {1: 9.0, 2: 5.0}, tokens=200)[-10:].count(2) >= 9
    assert count.choose(1, 1) == 1
    assert count.choose(100_000, 2) == 2
