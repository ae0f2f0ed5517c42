"""The default rule: fit a reward model to the judgements, then learn from fresh rollouts it scores.

One judgement per answer is too noisy for a gradient of its own; a small model on the frozen base's
hidden states pools them. Each step asks logged prompts again. A prompt's group holds rollouts of the policy
and a few of the base, so that what the policy has unlearnt can come back. Of each group the best and the worst by the
reward model are trained on, with advantages that sum to zero: how sure it is that the one is better. Where votes do
not tell yet, the KL penalty so keeps the base's many ways to answer, people go on judging all of them, and what is
liked can be found; a policy that follows each mean at once is judged on one way only, and stays with it.

Corrections teach the reward model as liked answers, and a few are learnt from directly in each step.
Preference counts as far as it is probable that people agree on anything (reward/significance.py): where they
do not, nothing is learnt from them, and what was learnt before fades under the KL penalty. Rehearsal
(rehearsal.py) is a constraint beside what is learnt, weighed apart; where nothing is, it would only move the policy
by the noise of its groups.
Comments are taught by the policy itself, where that helps (comments.py).
Left out: seeking what is uncertain, which is serving's part (BURNISH_EXPLORE, and now and then `best_of` by a draw); a
posterior draw per step only blurred the gradient here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from burnish.learner.reward.fitting import FittedReward, learn
from burnish.learner.reward.marginal_likelihood import has_outdated
from burnish.learner.reward.quality import measured
from burnish.learner.reward.significance import LEAST_WORTH, score, worth
from burnish.learner.rules.base import (
    NothingToLearn,
    StepBatch,
    StepConfig,
    TrainingData,
    best_and_worst,
)
from burnish.learner.rules.comments import CommentDistillation, Liked
from burnish.learner.rules.corrections import Pair
from burnish.learner.rules.prompt_pool import PromptPool
from burnish.learner.rules.rehearsal import MixedGroup, Rehearsal
from burnish.learner.training.prompts import task_prompt
from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.sampling import PolicySampler
from burnish.serving.reward.features import base_features
from burnish.serving.reward.reward_model import RewardModel
from torch import Tensor

BASE_SAMPLES = 2  # of the base, in each group
CORRECTIONS = 2  # learnt directly, in each step


class RewardModelRule:
    def __init__(self, config: StepConfig, state: Mapping[str, Any]) -> None:
        self.config = config
        self._parent = RewardModel.load(state)
        self._changed = bool(state.get("changed", False))
        self._rehearsal = Rehearsal(state.get("rehearsal"))
        self._fitted: FittedReward | None = None
        self._corrections: Sequence[Pair] = ()
        self._comments = CommentDistillation(config.max_tokens)
        self._weight = 0.0  # of preference, in [0, 1]

    def prepare(self, policy: PolicySampler, data: TrainingData, seed: int) -> Mapping[str, float]:
        rewards = [e.reward for e in data.experience]
        if min(rewards) == max(rewards) and not data.corrections:
            raise NothingToLearn(f"all {len(rewards)} judged answers got the same reward")
        if not data.prompts:
            raise NothingToLearn("no logged prompt is short enough to be asked again")
        self._prompts = PromptPool(data.prompts)
        self._corrections = data.corrections
        self._fitted = learn(data.evidence, self._parent, seed=seed)
        quality = measured(data.evidence, self._fitted)
        agreement = score(data.evidence, self._model)
        self._weight = worth(agreement, float(data.evidence.heard.sum()))
        if self._weight < LEAST_WORTH:
            self._weight = 0.0
        if not self._weight and not data.corrections and self._parent is None:
            raise NothingToLearn(
                f"{len(rewards)} judged answers agree no more with each other than guesses do ({agreement:.1f}"
                f" standard deviations above them), and foretell what others are thought of no better (AUROC"
                f" {quality.auroc:.2f}, give or take {quality.error:.2f})"
            )
        self._rehearsal.begin(data.tasks, data.solved)
        told = self._comments.measure(policy, self._judge(policy), data.comments, seed)
        return {
            **told,
            "reward_auroc": quality.auroc,
            "reward_auroc_lower": quality.lower,
            "agreement": agreement,
            "reward_samples": float(len(data.evidence.targets)),
            "preference_weight": self._weight,
        }

    def batch(self, policy: PolicySampler, step: int, seed: int) -> StepBatch:
        config, rng = self.config, Random(f"{seed}/{step}")
        groups = max(2, config.rollouts // config.samples_per_prompt)
        tasks = (
            self._rehearsal.draw(rng, groups, policy.model, config.max_tokens)
            if self._pulls
            else []
        )
        prompts = self._prompts.draw(rng, groups - len(tasks))
        own = policy.sample(
            prompts + [task_prompt(policy.model, task) for task in tasks],
            samples=config.samples_per_prompt,
            max_tokens=config.max_tokens,
            seed=rng.getrandbits(31),
        )
        unsure = self._rehearsal.unsure(tasks)
        asked = prompts + [task_prompt(policy.model, task) for task in unsure]
        others = self._of_base(policy, asked, rng.getrandbits(31))
        self._rehearsal.note_base(unsure, others[len(prompts) :])
        candidates = [
            [*mine, *theirs] for mine, theirs in zip(own, others[: len(prompts)], strict=False)
        ]
        mixed, skill = self._rehearsal.grade(tasks, own[len(prompts) :])
        liked, told = self._preferred(policy, candidates)
        rehearsed = self._rehearsed(policy, mixed)
        corrected = self._corrected(policy, rng)
        distilled = self._distilled(policy, rng)
        figures = {
            **told,
            "skill": skill,
            "rehearsed": float(len(rehearsed)),
            "corrected": float(len(corrected)),
            "distilled": float(len(distilled)),
            "burden": self._rehearsal.burden,
        }
        return StepBatch(liked + rehearsed + corrected + distilled, figures)

    def state_dict(self) -> dict[str, Any]:
        """`changed`: this update was the first to find that tastes are others since a while, perhaps before it
        was interrupted."""
        rehearsal = self._rehearsal.state_dict()
        if self._fitted is None:
            return {"rehearsal": rehearsal}
        known = self._parent is not None and has_outdated(self._parent)
        changed = self._changed or (has_outdated(self._model) and not known)
        return {**self._model.state_dict(), "rehearsal": rehearsal, "changed": changed}

    @property
    def _pulls(self) -> bool:
        """Whether anything is learnt that could cost skill."""
        return self._weight > 0 or bool(self._corrections)

    @property
    def _model(self) -> RewardModel:
        assert self._fitted is not None, "prepare comes first"
        return self._fitted.model

    def _of_base(
        self, policy: PolicySampler, prompts: Sequence[tuple[int, ...]], seed: int
    ) -> list[list[Rollout]]:
        """For each prompt a few answers of the base."""
        return policy.sample(
            prompts,
            samples=BASE_SAMPLES,
            max_tokens=self.config.max_tokens,
            seed=seed,
            base=True,
        )

    def _corrected(self, policy: PolicySampler, rng: Random) -> list[Rollout]:
        """A few corrections above what they correct, learnt directly: somebody wrote them out."""
        picked = rng.sample(self._corrections, min(CORRECTIONS, len(self._corrections)))
        both = [
            rollout
            for pair in picked
            for rollout in (
                pair.chosen.with_advantage(pair.weight),
                pair.rejected.with_advantage(-pair.weight),
            )
        ]
        return policy.with_logprobs(both)

    def _judge(self, policy: PolicySampler) -> Liked:
        def liked(rollouts: Sequence[Rollout]) -> list[tuple[float, float]]:
            features, model = _features(policy, rollouts), self._model
            mean, support = model.mean(features).tolist(), model.support(features).tolist()
            return list(zip(mean, support, strict=True))

        return liked

    def _distilled(self, policy: PolicySampler, rng: Random) -> list[Rollout]:
        """What the policy says better once it is told what was wrong, as far as preference counts."""
        if not self._weight:
            return []
        found = self._comments.draw(policy, self._judge(policy), rng)
        return [rollout.with_advantage(self._weight * rollout.advantage) for rollout in found]

    def _preferred(
        self, policy: PolicySampler, groups: Sequence[Sequence[Rollout]]
    ) -> tuple[list[Rollout], dict[str, float]]:
        """The best and the worst of each group by the reward model, and figures of all."""
        groups = [_comparable(group) for group in groups]
        rollouts = [rollout for group in groups for rollout in group]
        if not rollouts:
            return [], {}
        features = _features(policy, rollouts)
        mean = self._model.mean(features)
        best, worst = best_and_worst(mean.tolist(), [len(group) for group in groups])
        if not best:
            return [], {"liked": float(mean.mean())}
        sure = self._model.certainty(features[best], features[worst])
        chosen = []
        for better, worse, advantage in zip(
            best, worst, (self._weight * sure).tolist(), strict=True
        ):
            # What is better than all that the policy says now is learnt however unlikely it has become.
            chosen += [
                rollouts[better].with_advantage(advantage),
                replace(rollouts[worse], advantage=-advantage, imitated=False),
            ]
        imitated = sum(rollout.imitated for rollout in chosen)
        return chosen, {
            "liked": float(mean.mean()),
            "sure": float(sure.mean()),
            "imitated": float(imitated),
        }

    def _rehearsed(self, policy: PolicySampler, mixed: Sequence[MixedGroup]) -> list[Rollout]:
        """A right and a wrong rollout of each group that are liked alike."""
        rollouts = [rollout for group in mixed for rollout in (*group.right, *group.wrong)]
        if not rollouts:
            return []
        liked = self._model.mean(_features(policy, rollouts)).tolist()
        liking = dict(zip(map(id, rollouts), liked, strict=True))
        return [r for group in mixed for r in group.pair(lambda rollout: liking[id(rollout)])]


def _comparable(group: Sequence[Rollout]) -> list[Rollout]:
    """Those that came to their end, since nobody knows what a cut one would have been; all, if all were
    cut."""
    said = [rollout for rollout in group if rollout.token_ids]
    return [rollout for rollout in said if not rollout.truncated] or said


def _features(policy: PolicySampler, rollouts: Sequence[Rollout]) -> Tensor:
    return base_features(policy.model, [(r.prompt_ids, r.token_ids) for r in rollouts])
