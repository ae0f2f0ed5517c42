import os
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import torch
from burnish.learner.reward.fitting import FittedReward, fit
from burnish.learner.reward.evidence import fit_hyperparameters
from burnish.learner.reward.quality import foretold
from burnish.serving.reward.features import base_features
from burnish.serving.reward.kernel import Hyperparameters
from burnish.learner.rules.base import (
    NothingToLearn,
    StepBatch,
    StepConfig,
    TrainingData,
)
from burnish.learner.rules.rehearsal import Rehearsal
from burnish.learner.training.prompts import task_prompt
from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.sampling import PolicySampler

X = lambda k, d: type(d)(os.environ.get(k, d))
EXPLORE = X("X_EXPLORE", 0.5)
PER_STEP = X("X_PERSTEP", 0)
NOISE = X("X_NOISE", 6.0)
SHARE = X("X_SHARE", 0.2)
MODE = X("X_MODE", "pair")
WEIGHT = X("X_WEIGHT", 1.0)
UNIT = X("X_UNIT", 0.0)


class RewardModelRule:
    def __init__(self, config: StepConfig, state: Mapping[str, Any]) -> None:
        self.config = config
        self._reward: FittedReward | None = None
        self._rehearsal = Rehearsal(state.get("rehearsal"))
        self._prompts: Sequence[tuple[int, ...]] = ()

    def prepare(self, policy: PolicySampler, data: TrainingData, seed: int) -> Mapping[str, float]:
        rewards = torch.tensor([e.reward for e in data.experience])
        if rewards.min() == rewards.max():
            raise NothingToLearn(f"all {len(rewards)} judged answers got the same reward")
        if not data.prompts:
            raise NothingToLearn("no logged prompt is short enough to be asked again")
        self._prompts, self._rehearsal.source = data.prompts, data.tasks
        self._rehearsal.measure_base(policy, self.config.max_tokens, 0)
        ages = torch.arange(len(rewards) - 1, -1, -1).float()
        weights = torch.tensor([e.weight for e in data.experience])
        self._reward = fit(data.features, (rewards + 1) / 2, weights, ages, Hyperparameters(noise=NOISE), seed=seed)
        q = foretold(self._reward, [e.user for e in data.experience])
        return {"reward_auroc": q.auroc, "reward_lower": q.lower, "reward_samples": float(len(rewards))}

    def batch(self, policy: PolicySampler, step: int, seed: int) -> StepBatch:
        config, rng = self.config, Random(f"{seed}/{step}")
        groups = max(2, config.rollouts // config.samples_per_prompt)
        share = SHARE + (0.5 - SHARE) * min(1.0, 4 * self._rehearsal.burden)
        tasks = self._rehearsal.draw(rng, max(1, round(share * groups)), policy.model, config.max_tokens)
        prompts = [rng.choice(self._prompts) for _ in range(groups - len(tasks))]
        sampled = policy.sample(
            prompts + [task_prompt(policy.model, task) for task in tasks],
            samples=config.samples_per_prompt,
            max_tokens=config.max_tokens,
            seed=rng.getrandbits(31),
        )
        mixed, skill = self._rehearsal.grade(tasks, sampled[len(prompts) :])
        asked = [r for g in sampled[: len(prompts)] for r in g]
        graded = [r for _, good, bad in mixed for r in (*good, *bad)]
        scores, figures = self._score(policy, asked + graded, step)
        liked = iter(scores[: len(asked)])
        pref = []
        for g in sampled[: len(prompts)]:
            s = [next(liked) for _ in g]
            idx = sorted((i for i in range(len(g)) if g[i].token_ids), key=lambda i: s[i])
            if len(idx) < 2:
                continue
            d = (s[idx[-1]] - s[idx[0]]) / 2
            if MODE == "pair":
                pref += [(g[idx[0]], -d), (g[idx[-1]], d)]
            else:
                m = sum(s) / len(s)
                pref += [(g[i], s[i] - m) for i in idx]
        rms = (sum(a * a for _, a in pref) / max(1, len(pref))) ** 0.5 if not UNIT else UNIT
        out = [r.with_advantage(max(-3., min(3., WEIGHT * a / max(rms, 1e-6)))) for r, a in pref]
        rest = iter(scores[len(asked) :])
        pairs = 0
        for task, good, bad in mixed:
            sg, sb = [next(rest) for _ in good], [next(rest) for _ in bad]
            _, i, j = min((abs(a - b), i, j) for i, a in enumerate(sg) for j, b in enumerate(sb))
            lam = self._rehearsal.multiplier(task)
            out += [good[i].with_advantage(lam), bad[j].with_advantage(-lam)]
            pairs += 1
        return StepBatch(out, {**figures, "skill": skill, "rehearsed": float(2 * pairs), "burden": self._rehearsal.burden, "prefrms": rms})

    def state_dict(self) -> dict[str, Any]:
        fitted = self._reward.model.state_dict() if self._reward is not None else {}
        return {**fitted, "rehearsal": self._rehearsal.state_dict()}

    def _score(self, policy, rollouts, step):
        features = base_features(policy.model, [(r.prompt_ids, r.token_ids or (0,)) for r in rollouts])
        model = self._reward.model
        mean = model.mean(features)
        score = mean
        if EXPLORE:
            k = step % model.draws if PER_STEP else 0
            score = mean + EXPLORE * (model.draw(features, k) - mean)
        return score.tolist(), {"liked": float(mean.mean())}
