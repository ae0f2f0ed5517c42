"""What people say in words of an answer that failed, taught by the policy itself: self-distillation.

The teacher is the same policy with the comment in its prompt, which answers as somebody who was told what
was wrong; what it says is learnt as the answer to the prompt without the comment (feedback-conditioned
self-distillation). The gain is linear in the gap between the two (arXiv 2605.30070), so that is measured
at the beginning of each update: how much better the reward model likes the teacher's answers than the
policy's own to the same prompts. It is on where that is above zero by more than chance, and of each prompt only
what is better than all that the policy says itself is learnt.

A failure is liked less than most, so whatever the reward model knows nothing of, and takes for average,
would look better: a teacher's answer that is not about as near to what people judged as the policy's own
counts as not liked at all.

Failures only: distilling successes too collapses late (arXiv 2604.02288). Left out: comments by people whose verdict does not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from burnish.learner.reward.experience import AskedChat, Experience, text_of
from burnish.learner.tasks import PackError
from burnish.learner.training.prompts import task_prompt
from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.sampling import PolicySampler
from burnish.serving.reward.choosing import SUPPORT

MEASURED = 16  # prompts, on which the gap is measured, at most
LEAST = 6  # of them, without which nothing is said of it
LEARNT = 2  # prompts, whose comments are learnt from in each step
SAMPLES = 2  # answers of the teacher, and of the policy, to each
ERRORS = 2.0  # standard errors that the gap must be above zero
COMMENT_CHARACTERS = 500  # read of a comment
NOTE = "(A user said of an earlier answer to this: {})"

# Of each P(liked) by the reward model, and its support: how near the nearest judged answer is.
Liked = Callable[[Sequence[Rollout]], list[tuple[float, float]]]
Scored = tuple[Rollout, float]


@dataclass(frozen=True)
class CommentedPrompt:
    """A prompt whose answer failed; `told_ids`: the same with what somebody said of that answer."""

    prompt_ids: tuple[int, ...]
    told_ids: tuple[int, ...]


@dataclass(frozen=True)
class TeacherGap:
    """How much better the teacher's answers are liked than the policy's own, in P(liked), over so many
    prompts; `lower`: what it is at least, but for one time in forty."""

    mean: float = 0.0
    lower: float = -1.0
    prompts: int = 0

    @classmethod
    def of(cls, differences: Sequence[float]) -> TeacherGap:
        """From one difference for each prompt; nothing is said of few."""
        count = len(differences)
        if count < LEAST:
            return cls(prompts=count)
        mean = math.fsum(differences) / count
        spread = math.fsum((d - mean) ** 2 for d in differences) / (count - 1)
        return cls(mean, mean - ERRORS * math.sqrt(spread / count), count)

    @property
    def is_shown(self) -> bool:
        return self.lower > 0


class CommentDistillation:
    """Off until `measure` has found a gap."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._prompts: Sequence[CommentedPrompt] = ()
        self.gap = TeacherGap()

    def measure(
        self, policy: PolicySampler, liked: Liked, prompts: Sequence[CommentedPrompt], seed: int
    ) -> Mapping[str, float]:
        """Measure the teacher's gap on some of the prompts; figures of it."""
        rng = Random(f"{seed}/comments")
        self._prompts = prompts
        picked = rng.sample(prompts, min(MEASURED, len(prompts)))
        if len(picked) >= LEAST:
            pairs = self._answered(policy, liked, picked, rng.getrandbits(31))
            self.gap = TeacherGap.of([_mean(theirs) - _mean(own) for theirs, own in pairs])
        return {
            "commented": float(len(prompts)),
            "teacher_gap": self.gap.mean,
            "teacher_gap_lower": self.gap.lower,
            "teacher_on": float(self.gap.is_shown),
        }

    def draw(self, policy: PolicySampler, liked: Liked, rng: Random) -> list[Rollout]:
        """The teacher's best answers to a few prompts, to be imitated, where they are better than the
        policy's own; none while it is off."""
        if not self.gap.is_shown:
            return []
        picked = rng.sample(self._prompts, min(LEARNT, len(self._prompts)))
        pairs = self._answered(policy, liked, picked, rng.getrandbits(31))
        found = []
        for theirs, own in pairs:
            best, liking = max(theirs, key=lambda scored: scored[1])
            if liking > max(score for _, score in own):
                found.append(replace(best, advantage=1.0, imitated=True))
        return found

    def _answered(
        self,
        policy: PolicySampler,
        liked: Liked,
        prompts: Sequence[CommentedPrompt],
        seed: int,
    ) -> list[tuple[list[Scored], list[Scored]]]:
        """Of each prompt the answers of the teacher and of the policy with their P(liked), as answers to
        the prompt alone; without prompts of which either said nothing whole."""
        asked = [ids for prompt in prompts for ids in (prompt.told_ids, prompt.prompt_ids)]
        groups = policy.sample(asked, samples=SAMPLES, max_tokens=self._max_tokens, seed=seed)
        sides = [
            [
                replace(rollout, prompt_ids=prompts[index // 2].prompt_ids)
                for rollout in group
                if rollout.token_ids and not rollout.truncated
            ]
            for index, group in enumerate(groups)
        ]
        kept = [
            (theirs, own)
            for theirs, own in zip(sides[::2], sides[1::2], strict=True)
            if theirs and own
        ]
        said = [rollout for pair in kept for side in pair for rollout in side]
        found = iter(liked(said) if said else [])
        return [_scored(theirs, own, found) for theirs, own in kept]


def commented(
    experience: Iterable[Experience], asked: Mapping[str, AskedChat], model: Any, max_tokens: int
) -> Iterator[CommentedPrompt]:
    """The prompts of disliked answers with each thing that was said of them; `asked` are the chats by
    interaction. What the template refuses, spells special tokens or makes of the prompt more than
    `max_tokens` is left out."""
    special = frozenset(model.tokenizer.all_special_ids)
    for item in experience:
        chat = asked.get(item.interaction_id)
        if item.reward >= 0 or chat is None:
            continue
        for comment in item.comments:
            said = comment.strip()[:COMMENT_CHARACTERS]
            told = _told(chat, said)
            texts = [message["content"] for message in told.messages]
            spelt = model.tokenizer.encode("\n".join(texts), add_special_tokens=False)
            if not said or not special.isdisjoint(spelt):
                continue
            try:
                ids = task_prompt(model, told)
            except PackError:
                continue
            if len(ids) <= max_tokens:
                yield CommentedPrompt(item.prompt_ids, ids)


def _told(chat: AskedChat, comment: str) -> AskedChat:
    """The chat with the comment at the end of the user's last message, as every template takes it."""
    messages = [{**message, "content": text_of(message)} for message in chat.messages]
    for message in reversed(messages):
        if message.get("role") == "user":
            message["content"] += f"\n\n{NOTE.format(comment)}"
            break
    return replace(chat, messages=messages)


def _scored(
    theirs: Sequence[Rollout], own: Sequence[Rollout], found: Iterator[tuple[float, float]]
) -> tuple[list[Scored], list[Scored]]:
    """The teacher's answers and the policy's with what counts of their P(liked)."""
    of_theirs, of_own = [next(found) for _ in theirs], [next(found) for _ in own]
    least = SUPPORT * max(support for _, support in of_own)
    return (
        [
            (rollout, liked if support >= least else 0.0)
            for rollout, (liked, support) in zip(theirs, of_theirs, strict=True)
        ],
        [(rollout, liked) for rollout, (liked, _) in zip(own, of_own, strict=True)],
    )


def _mean(scored: Sequence[Scored]) -> float:
    return math.fsum(score for _, score in scored) / len(scored)
