"""What simulated people make of the shipped model's answers to its own tasks."""

from __future__ import annotations

from burnish.learner.tasks.ember import Exercise, is_correct, style_of
from burnish.ops.bench.lib.learning_loop import Answer
from burnish.ops.simulate.population import Population, User


def liking(people: Population, user: User, answer: Answer) -> float:
    """The chance that this person means thumbs up, by whether the answer is right and its style."""
    task = answer.prompt
    assert isinstance(task, Exercise)
    right, style = is_correct(task, answer.text), style_of(task, answer.text)
    return people.expected_by(user, task.family, right, style)
