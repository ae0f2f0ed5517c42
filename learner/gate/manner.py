"""How a candidate answers: figures of its answers to the first look, bounded relative to each reference.

One function for each check. Where length would tell, of each pair of answers as many tokens count. A new
check is a function here and its name in CHECKS; a check of a product's own needs neither (plugins.py).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from burnish.kernels.model import LoadedModel
from burnish.learner.gate.answers import BASE, Answer
from burnish.learner.gate.checks import mean
from burnish.learner.gate.limits import GateLimits
from burnish.learner.gate.report import Check
from burnish.learner.tasks.general.manners import language_of
from burnish.learner.training.batching import TokenBatch, answer_logprobs, chunks
from burnish.learner.training.rollouts import Rollout

DIVERSITY_TOKENS = 24  # first tokens of each answer that count
REPEATED = 4  # tokens that make up a phrase
OPENER_WORDS = 2
_WORD = re.compile(r"\w+")
_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class Beside:
    """A candidate's answers beside a reference's, question by question; `asked`: the last message of each."""

    reference: str
    asked: Sequence[str]
    theirs: Sequence[Answer]
    ours: Sequence[Answer]

    @property
    def step(self) -> bool:
        """Whether the reference is the champion, from which one update leads."""
        return self.reference != BASE

    def cut(
        self, longest: int | None = None
    ) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        """Theirs and ours as tokens, of each pair as many, at most `longest`."""
        cuts = [
            min(len(a.token_ids), len(b.token_ids), longest or len(a.token_ids))
            for a, b in zip(self.theirs, self.ours, strict=True)
        ]
        of_theirs, of_ours = (
            [answer.token_ids[:at] for answer, at in zip(of, cuts, strict=True)]
            for of in (self.theirs, self.ours)
        )
        return of_theirs, of_ours


def kl(model: LoadedModel, rollouts: Sequence[Rollout], limits: GateLimits) -> Check:
    """The candidate has not moved too far from the base."""
    value = kl_to_base(model, rollouts)
    says = f"KL to the base is {value:.3f} nats per token (allowed: {limits.max_kl:g})"
    return _bounded("kl", value, says, high=limits.max_kl)


def length(beside: Beside, limits: GateLimits) -> Check:
    """Answers have become neither much shorter nor much longer."""
    low, high = limits.length_step if beside.step else limits.length
    ours, theirs = (mean([len(a.token_ids) for a in of]) for of in (beside.ours, beside.theirs))
    ratio = ours / max(theirs, 1.0)
    says = f"answers are {ratio:.2f} times as long as the {beside.reference}'s (allowed: {low:g} to {high:g})"
    return _bounded(f"length/{beside.reference}", ratio, says, low, high)


def entropy(beside: Beside, limits: GateLimits) -> Check:
    """The policy has not collapsed: it is still uncertain about its next token."""
    low = limits.entropy_step if beside.step else limits.entropy
    ratio = entropy_of(beside.ours) / max(entropy_of(beside.theirs), 1e-6)
    says = (
        f"entropy per token is {ratio:.2f} of the {beside.reference}'s (allowed: {low:g} or more)"
    )
    return _bounded(f"entropy/{beside.reference}", ratio, says, low)


def diversity(beside: Beside, limits: GateLimits) -> Check:
    """Answers to different questions do not all say the same."""
    low = limits.diversity_step if beside.step else limits.diversity
    theirs, ours = map(distinct_bigrams, beside.cut(DIVERSITY_TOKENS))
    ratio = ours / theirs if theirs else 1.0
    says = f"answers are {ratio:.2f} times as diverse as the {beside.reference}'s (allowed: {low:g} or more)"
    return _bounded(f"diversity/{beside.reference}", ratio, says, low)


def repetition(beside: Beside, limits: GateLimits) -> Check:
    """An answer does not repeat itself."""
    theirs, ours = (mean([repeated(tokens) for tokens in of]) for of in beside.cut())
    more = ours - theirs
    says = (
        f"{ours:.0%} of an answer repeats what it has said, {more:+.0%} against the"
        f" {beside.reference} (allowed: {limits.repetition:+.0%})"
    )
    return _bounded(f"repetition/{beside.reference}", more, says, high=limits.repetition)


def opener(beside: Beside, limits: GateLimits) -> Check:
    """Answers do not all begin alike."""
    high = limits.opener_step if beside.step else limits.opener
    share, phrase = commonest_opener(beside.ours)
    more = share - commonest_opener(beside.theirs)[0]
    says = (
        f"{share:.0%} of answers begin with \u201c{phrase}\u201d, {more:+.0%} against the"
        f" {beside.reference}'s own commonest beginning (allowed: {high:+.0%})"
    )
    return _bounded(f"opener/{beside.reference}", more, says, high=high)


def language(beside: Beside, limits: GateLimits) -> Check:
    """Answers keep the language and the script of the question, where these can be told."""
    theirs, ours = (
        mean([other_language(q, a.text) for q, a in zip(beside.asked, of, strict=True)])
        for of in (beside.theirs, beside.ours)
    )
    more = ours - theirs
    says = (
        f"{ours:.0%} of answers are in another language than the question, {more:+.0%} against the"
        f" {beside.reference} (allowed: {limits.language:+.0%})"
    )
    return _bounded(f"language/{beside.reference}", more, says, high=limits.language)


CHECKS: Sequence[Callable[[Beside, GateLimits], Check]] = (
    length,
    entropy,
    diversity,
    repetition,
    opener,
    language,
)


def entropy_of(answers: Sequence[Answer]) -> float:
    """Nats per token, as sampled."""
    return -mean([p for answer in answers for p in answer.logprobs])


def kl_to_base(model: LoadedModel, rollouts: Sequence[Rollout]) -> float:
    """KL of the candidate to the base in nats per token, estimated on the candidate's own rollouts
    (Schulman's k3 estimator: unbiased, and never negative)."""
    total, count = 0.0, 0
    with torch.no_grad():
        for chunk in chunks([rollout for rollout in rollouts if rollout.token_ids]):
            of_base = answer_logprobs(model, chunk)
            behaviour = TokenBatch.of(chunk, of_base.device).behaviour
            log_ratio = (of_base - behaviour).clamp(max=10.0)
            total += float((torch.exp(log_ratio) - 1 - log_ratio).sum())
            count += len(of_base)
    return total / max(count, 1)


def distinct_bigrams(answers: Sequence[Sequence[int]]) -> float:
    """Share of token bigrams that are distinct (distinct-2, Li et al. 2016); 0 when there are none."""
    bigrams = [pair for tokens in answers for pair in pairwise(tokens)]
    return len(set(bigrams)) / max(len(bigrams), 1)


def repeated(tokens: Sequence[int]) -> float:
    """Share of an answer's phrases of REPEATED tokens that it has had before; 0 when there are none."""
    phrases = [tuple(tokens[at : at + REPEATED]) for at in range(len(tokens) - REPEATED + 1)]
    return 1 - len(set(phrases)) / len(phrases) if phrases else 0.0


def commonest_opener(answers: Sequence[Answer]) -> tuple[float, str]:
    """The first words that most answers begin with, of all that go on after them; and their share."""
    openers = Counter(filter(None, (opener_of(answer.text) for answer in answers)))
    if not openers:
        return 0.0, ""
    [(phrase, count)] = openers.most_common(1)
    return count / len(answers), phrase


def opener_of(text: str) -> str | None:
    """The first words of an answer; None where it does not go on after them."""
    words = _WORD.findall(text.casefold())
    return " ".join(words[:OPENER_WORDS]) if len(words) > OPENER_WORDS else None


def other_language(asked: str, answer: str) -> bool:
    """Whether an answer is written in another script than its question, or, as far as small words tell, in
    another language."""
    scripts = script_of(asked), script_of(answer)
    if None not in scripts and scripts[0] != scripts[1]:
        return True
    languages = language_of(asked) or "English", language_of(answer)
    return scripts[0] == "LATIN" and languages[1] is not None and languages[0] != languages[1]


def script_of(text: str) -> str | None:
    """The script of most of a text's letters, as Unicode names it; None without letters."""
    letters = _LETTER.findall(text)
    if not letters:
        return None
    names = Counter(unicodedata.name(letter, "OTHER").split()[0] for letter in letters)
    return names.most_common(1)[0][0]


def _bounded(
    name: str, value: float, says: str, low: float | None = None, high: float | None = None
) -> Check:
    passed = (low is None or value >= low) and (high is None or value <= high)
    return Check(name=name, value=value, low=low, high=high, passed=passed, says=says)
