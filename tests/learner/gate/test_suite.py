"""Streams of held-out questions: endless, the same for ever, none without a task."""

import pytest
from burnish.learner.gate.suite import Stream
from burnish.learner.tasks import Task


def tasks(count: int) -> list[Task]:
    return [
        Task("ours", ({"role": "user", "content": f"{n}?"},), lambda answer: True)
        for n in range(count)
    ]


def test_a_list_is_gone_through_again_with_other_seeds():
    stream = Stream("ours", tasks(3))
    first, again = stream.question(1), stream.question(4)
    assert first.task is again.task
    assert first.seed != again.seed
    assert first.key != again.key


def test_the_first_look_has_each_task_once():
    assert len(Stream("ours", tasks(3)).first(12)) == 3
    assert len(Stream("ours", iter(tasks(30))).first(12)) == 12


def test_questions_are_the_same_for_ever():
    assert Stream("ours", tasks(9)).question(7) == Stream("ours", tasks(9)).question(7)


def test_an_empty_stream_says_so():
    stream = Stream("ours", [])
    assert not stream
    with pytest.raises(IndexError, match="ours"):
        stream.question(0)
