"""What people asked and said, for the gate: logged prompts, and a reward model fitted to all that counts."""

from __future__ import annotations

from burnish.kernels.model import LoadedModel
from burnish.learner.database import Database
from burnish.learner.gate.logged import PROMPTS, Logged
from burnish.learner.reward import experience
from burnish.learner.reward.fitting import fit
from burnish.learner.reward.marginal_likelihood import aged
from burnish.learner.settings import LearnerSettings
from burnish.learner.update.judged import in_vocabulary, load_judged
from burnish.serving.reward.kernel import Hyperparameters
from burnish.serving.reward.reward_model import RewardModel


def load_logged(
    database: Database,
    model: LoadedModel,
    settings: LearnerSettings,
    *,
    policy: str,
    champion: int,
    reward: RewardModel | None,
) -> Logged:
    """As of the `champion` version, with the hyperparameters that the update found, or those to begin with. Raises
    NothingToLearn where no judgement counts any more."""
    evidence = load_judged(
        database, model, settings, policy=policy, champion=champion, before=reward
    ).evidence
    with database.read() as session:
        asked = experience.prompts(session, policy, PROMPTS)
    prompts = [
        prompt
        for prompt in asked
        if len(prompt.token_ids) <= settings.max_prompt_tokens
        and in_vocabulary(model, prompt.token_ids)
    ]
    of = reward.hyperparameters if reward else Hyperparameters()
    return Logged(prompts, evidence, fit(evidence, aged(evidence, of), of))
