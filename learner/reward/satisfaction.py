"""(Dis)satisfaction read from the user's next turn, where nobody judged: a probe on hidden states.

"No, I meant ..." says something of the answer before it. A linear probe reads what the frozen base makes
of that turn, after prompt and answer: ridge regression fitted to the answers that people judged too, its
penalty by leave-one-out error (Allen's PRESS, 1974). It is off until it has shown skill on the judgements of
people who were left out of it, and counts by what it has shown at least: twice the AUROC's lower bound above .5.
Of each answer it counts as the signal `followup`, by what its reading tells (signals.py).

Left out: turns of answers that somebody judged, which say it themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from burnish.feedback.judgements import Judgement, Worth
from burnish.feedback.rewards import Reward
from burnish.kernels.model import LoadedModel
from burnish.learner.database import Database
from burnish.learner.reward.experience import JudgedAnswer
from burnish.learner.reward.features import turn_features
from burnish.learner.reward.next_turns import NextTurn, next_turns, unjudged
from burnish.learner.reward.quality import Quality, fold_of, mean_quality, quality
from burnish.learner.reward.signals import information
from burnish.serving.reward.features import split
from torch import Tensor

LEAST = 64  # judged answers with a next turn
MOST = 512  # read of either kind, the latest
TURN_TOKENS = 128  # read of a turn
ERRORS = 2.1  # standard errors that skill must be above chance
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
SUREST = 0.95

Following = dict[str, tuple[NextTurn, list[int]]]  # by interaction: what was said next, in tokens


@dataclass(frozen=True)
class Probe:
    """P(liked) as a linear function of standardised features [D]."""

    centre: Tensor
    spread: Tensor
    weights: Tensor
    mean: float

    def __call__(self, features: Tensor) -> Tensor:
        """P(liked), [N], of features [N, D]."""
        points = (features - self.centre) / self.spread
        return (self.mean + points @ self.weights).clamp(1 - SUREST, SUREST)


@dataclass(frozen=True)
class Read:
    """Judged answers with what their next turns say, those among them that nobody judged, and figures."""

    answers: list[JudgedAnswer]
    figures: Mapping[str, float]


def fit_probe(features: Tensor, targets: Tensor, weights: Tensor) -> Probe:
    """Fit to features [N, D], targets [N] in [0, 1] and weights [N] in (0, 1]."""
    centre, spread = features.mean(0), features.std(0).clamp_min(1e-6)
    points = (features - centre) / spread
    mean = float((targets * weights).sum() / weights.sum())
    gram = points @ points.T / points.shape[1]
    noise = (1 / weights).diag()
    best, least = torch.zeros_like(targets), float("inf")
    for penalty in PENALTIES:
        inverse = torch.linalg.inv(gram + penalty * noise)
        dual = inverse @ (targets - mean)
        error = float((weights * (dual / inverse.diag()).square()).sum())
        if error < least:
            best, least = dual, error
    return Probe(centre, spread, points.T @ best / points.shape[1], mean)


def skill(
    features: Tensor, targets: Tensor, weights: Tensor, raters: Sequence[Hashable]
) -> Quality:
    """AUROC on the judgements of raters who were left out, by folds."""
    folds = torch.tensor(fold_of(raters))
    parts: list[Quality | None] = []
    for fold in folds.unique().tolist():
        held, kept = folds == fold, folds != fold
        probe = fit_probe(features[kept], targets[kept], weights[kept])
        parts.append(quality(probe(features[held]), targets[held]))
    return mean_quality(parts)


def weight_of(found: Quality) -> float:
    """How far a probe of that quality counts, in [0, 1]; 0: it is off."""
    return max(0.0, 2 * (found.auroc - ERRORS * found.error) - 1)


def read_next_turns(
    database: Database,
    model: LoadedModel,
    answers: Sequence[JudgedAnswer],
    explicit: Sequence[Reward | None],
    *,
    policy: str,
    champion: int,
    max_staleness: int,
    fits: Callable[[JudgedAnswer], bool],
) -> Read:
    """Judged `answers`, of which `explicit` says what thumbs and scores are worth, as far as there are any,
    with what people's next turns say of the others. Answers that nobody judged come in where they `fits`."""
    following = _following(database, model, policy, answers)
    labelled = [
        (answer, reward)
        for answer, reward in zip(answers, explicit, strict=True)
        if reward is not None and answer.interaction_id in following and not answer.choice
    ][-MOST:]
    if len(labelled) < LEAST:
        return Read(list(answers), {"followups_judged": float(len(labelled))})
    features = _features(database, model, [answer for answer, _ in labelled], following)
    targets = torch.tensor([(1 + reward.value) / 2 for _, reward in labelled])
    weights = torch.tensor([reward.weight for _, reward in labelled]).clamp_min(1e-3)
    raters = [row if a.user is None else a.user for row, (a, _) in enumerate(labelled)]
    found = skill(features, targets, weights, raters)
    figures = {
        "followups_judged": float(len(labelled)),
        "followup_auroc": found.auroc,
        "followup_weight": weight_of(found),
    }
    if not weight_of(found):
        return Read(list(answers), figures)
    with database.read() as session:
        silent = unjudged(
            session, policy, champion=champion, limit=4 * MOST, max_staleness=max_staleness
        )
    silent = list(filter(fits, silent))
    following |= _following(database, model, policy, silent)
    unsaid = [a for a, reward in zip(answers, explicit, strict=True) if reward is None]
    read = [
        answer
        for answer in (*unsaid, *silent)
        if answer.interaction_id in following and not answer.choice
    ][-MOST:]
    probe = fit_probe(features, targets, weights)
    liked = probe(_features(database, model, read, following)).tolist() if read else []
    said = {
        answer.interaction_id: _followup(
            answer, following[answer.interaction_id][0], value, probe.mean, weight_of(found)
        )
        for answer, value in zip(read, liked, strict=True)
    }
    return Read(
        [
            replace(answer, judgements=(*answer.judgements, said[answer.interaction_id]))
            if answer.interaction_id in said and not answer.choice
            else answer
            for answer in (*answers, *silent)
            if answer.judgements or answer.interaction_id in said
        ],
        figures | {"followups": float(len(said))},
    )


def _followup(
    answer: JudgedAnswer, turn: NextTurn, liked: float, usual: float, weight: float
) -> Judgement:
    usual = min(SUREST, max(1 - SUREST, usual))
    return Judgement(
        id=f"followup/{answer.interaction_id}",
        tenant=answer.tenant,
        user=turn.user,
        asker=answer.user,
        interaction_id=answer.interaction_id,
        name="signal",
        value="followup",
        time=turn.time,
        worth=Worth(2 * liked - 1, weight * information(liked, usual)),
    )


def _following(
    database: Database, model: LoadedModel, policy: str, answers: Sequence[JudgedAnswer]
) -> Following:
    """The next turns of those answers that have one for which the model's window has room."""
    with database.read() as session:
        turns = next_turns(session, policy, answers)
    room = {
        a.interaction_id: model.max_model_len - len(a.prompt_ids) - len(a.token_ids)
        for a in answers
        if not a.choice
    }
    found: Following = {}
    for interaction, turn in turns.items():
        tokens = model.tokenizer.encode(turn.text, add_special_tokens=False)
        tokens = tokens[: min(TURN_TOKENS, max(0, room[interaction]))]
        if tokens:
            found[interaction] = turn, tokens
    return found


def _features(
    database: Database, model: LoadedModel, answers: Sequence[JudgedAnswer], following: Following
) -> Tensor:
    """What the base makes of the turns after these answers: the mean over the turn and its last token,
    [N, 2H]."""
    turns = [following[answer.interaction_id][1] for answer in answers]
    read = turn_features(database, model, answers, turns)
    return split(read)[1]
