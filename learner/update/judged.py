"""The judged answers of a policy as evidence for a reward model: weighed by trust, with their features."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from burnish.feedback.fates import Fate
from burnish.feedback.rewards import worth_of
from burnish.feedback.trust.weighing import Weights
from burnish.kernels.model import LoadedModel
from burnish.learner.database import Database
from burnish.learner.reward import experience, signals
from burnish.learner.reward.credit_assignment import assigned
from burnish.learner.reward.evidence import Evidence
from burnish.learner.reward.experience import Experience, JudgedAnswer
from burnish.learner.reward.features import features_of
from burnish.learner.reward.quarantine import with_released
from burnish.learner.reward.raters import believe
from burnish.learner.reward.satisfaction import read_next_turns
from burnish.learner.rules import NothingToLearn
from burnish.learner.rules.corrections import Pair, corrections
from burnish.learner.settings import LearnerSettings
from burnish.serving.reward.features import base_features
from burnish.serving.reward.kernel import Hyperparameters
from burnish.serving.reward.reward_model import RewardModel
from torch import Tensor


@dataclass(frozen=True)
class JudgedAnswers:
    """What judgements say, corrections above what they correct, figures about whom to believe, and what
    becomes of each judgement, by event id."""

    experience: Sequence[Experience]
    corrections: Sequence[Pair]
    evidence: Evidence
    figures: Mapping[str, float]
    fates: Mapping[str, Fate]


def load_judged(
    database: Database,
    model: LoadedModel,
    settings: LearnerSettings,
    *,
    policy: str,
    champion: int,
    before: RewardModel | None,
) -> JudgedAnswers:
    """The judged answers of a policy, as of its `champion` version.

    The reward model `before` shares sessions' verdicts among their turns; votes are weighed by one with its
    hyperparameters. Raises NothingToLearn.
    """
    with database.read() as session:
        judged = experience.load(
            session,
            policy,
            champion=champion,
            limit=settings.history,
            max_staleness=settings.max_staleness,
        )
        trust = with_released(
            session, settings.trust_of(policy), (j for answer in judged for j in answer.judgements)
        )
    max_prompt, max_answer = settings.max_prompt_tokens, 2 * settings.max_answer_tokens

    def fits(answer: JudgedAnswer) -> bool:
        return len(answer.prompt_ids) <= max_prompt and len(answer.token_ids) <= max_answer

    def readable(answer: JudgedAnswer) -> bool:
        return in_vocabulary(model, (*answer.prompt_ids, *answer.token_ids))

    unlearnt = {
        judgement.event_id: Fate(
            policy=policy, skipped="tokenizer" if not readable(answer) else "long"
        )
        for answer in judged
        if not readable(answer) or not fits(answer)
        for judgement in answer.judgements
    }
    judged = list(filter(readable, judged))
    if not judged:
        raise NothingToLearn("no judged answer of this model is left")
    known = len(judged)
    judged = list(filter(fits, judged))
    if not judged:
        raise NothingToLearn(
            f"of {known} judged answers none is short enough: at most {max_prompt} tokens of prompt"
            f" and {max_answer} of answer"
        )
    given = [answer.judgements for answer in judged]
    explicit = signals.explicit_rewards(given, trust)
    worths = signals.signal_worths(given, explicit)
    read = read_next_turns(
        database,
        model,
        judged,
        explicit,
        policy=policy,
        champion=champion,
        max_staleness=settings.max_staleness,
        fits=lambda answer: readable(answer) and fits(answer),
    )
    judged = signals.with_worths(read.answers, worths)
    features = features_of(database, model, judged)
    judged = assigned(judged, expected_rewards(before, features))
    known_before = before.hyperparameters if before else Hyperparameters()
    weights = believe(judged, features, known_before, trust)
    trusted = experience.weighed(judged, weights)
    if not trusted.experience:
        raise NothingToLearn("every judgement is in quarantine")
    pairs = list(corrections(trusted.experience, model, max_answer))
    return JudgedAnswers(
        experience=trusted.experience,
        corrections=pairs,
        evidence=evidence_of(model, trusted.experience, features[trusted.indices], pairs),
        figures={
            "too_long": float(known - len(given)),
            "silent": float(len(read.answers) - len(judged)),
            **signals.figures(worths),
            **read.figures,
            "quarantined": float(trusted.quarantined),
            "capped": float(trusted.capped),
            "disbelieved": float(trusted.distrusted),
            "corrections": float(len(pairs)),
        },
        fates=unlearnt | fates_of(policy, judged, weights),
    )


def fates_of(policy: str, judged: Sequence[JudgedAnswer], weights: Weights) -> dict[str, Fate]:
    """How much each judgement on these answers counts, and why less than in full, by event id. What a
    judgement of a session counts for all its answers together."""
    now, found = time.time(), dict[str, Fate]()
    given = [judgement for answer in judged for judgement in answer.judgements]
    for judgement, trust, reason in zip(given, weights.weights, weights.reasons, strict=True):
        worth = worth_of(judgement)
        weight = worth.weight * trust * judgement.share if worth else 0.0
        if judgement.event_id in found:
            weight += found[judgement.event_id].weight or 0.0
        less = reason or ("" if worth and worth.weight == 1 else judgement.name)
        found[judgement.event_id] = Fate(
            policy=policy, weighed_at=now, weight=round(min(weight, 1.0), 3), less=less, skipped=""
        )
    return found


def evidence_of(
    model: LoadedModel, judged: Sequence[Experience], features: Tensor, pairs: Sequence[Pair]
) -> Evidence:
    """What a reward model is fitted to: judged answers with their features [N, 3H + MANNER], and corrections, which
    are liked."""
    targets = [(item.reward + 1) / 2 for item in judged] + [1.0] * len(pairs)
    weights = [item.weight for item in judged] + [pair.weight for pair in pairs]
    people = [item.person for item in judged] + [pair.person for pair in pairs]
    heard = [item.heard for item in judged] + [pair.heard for pair in pairs]
    times = [item.judged_at for item in judged] + [pair.judged_at for pair in pairs]
    if pairs:
        written = [(pair.chosen.prompt_ids, pair.chosen.token_ids) for pair in pairs]
        features = torch.cat([features, base_features(model, written)])
    order = sorted(range(len(times)), key=times.__getitem__)
    return Evidence(
        features[order],
        torch.tensor(targets)[order],
        torch.tensor(weights)[order],
        # Those without a name are each their own.
        [people[row] or row for row in order],
        torch.tensor(heard)[order],
    )


def in_vocabulary(model: LoadedModel, tokens: Sequence[int]) -> bool:
    """Whether the model knows them: those of another tokenizer, from before the base was changed, say
    nothing to this one."""
    return max(tokens) < model.config.vocab_size


def expected_rewards(model: RewardModel | None, features: Tensor) -> list[float] | None:
    """The rewards in [-1, 1] that a reward model predicts; None without one."""
    if model is None or model.size != features.shape[1]:
        return None
    return (2 * model.mean(features) - 1).clamp(-1, 1).tolist()
