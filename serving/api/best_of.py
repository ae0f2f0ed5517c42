"""Best of n: more candidates are sampled than answers are given, and a reward model chooses among them.

Candidates are scored by what the model expects; of one request in eight by one draw of it, so that what nobody
has judged is tried as often as it may well be better: Thompson sampling for a share of the time (Jin et al. 2023).
Whether, and which draw, follows from the request's seed. What people said of other answers acts so within seconds,
before any weight moves. Whatever keeps the choice from being made, the first answers sampled are given, and the
record says why. Left out: which candidates may be chosen (reward/choosing.py), and OpenAI's own best_of of
/v1/completions.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import torch
from burnish.feedback.events import BestOf
from burnish.serving.api.chat_requests import ChatRequest
from burnish.serving.api.errors import ApiError, unsupported
from burnish.serving.api.generation import Choice, GenerationRequest
from burnish.serving.api.metrics import Metrics
from burnish.serving.api.off_loop import off_loop
from burnish.serving.api.service import Service
from burnish.serving.engine import Engine
from burnish.serving.live import ServedReward
from burnish.serving.reward.choosing import Candidate, counting, ranked
from burnish.serving.reward.features import answer_features, layers_read, text_of
from burnish.serving.reward.reward_model import RewardModel

log = logging.getLogger(__name__)

FINISHED = ("stop", "tool_calls")
EXPLORING = 8  # one request in so many is chosen by a draw
# Why nothing was chosen, as it is recorded.
NO_MODEL = "no reward model was published yet"
NO_STATES = "the engine tells no hidden states"
NONE_COUNTS = "no candidate was both as likely as the others and near what was judged"
_MICROSECONDS = 2  # to compare candidates with a judged answer


def check(service: Service, body: ChatRequest) -> None:
    """Refuse a number of candidates of which nothing can be chosen. Raises ApiError."""
    asked = body.best_of
    if asked is None:
        return
    if asked < body.n:
        raise _invalid(f"it is at least n, which is {body.n}")
    if asked > body.n and body.temperature == 0:
        raise _invalid("at temperature 0 all candidates are the same")
    if asked > body.n and service.engine.depth is None:
        raise unsupported("best_of", "The servers of BURNISH_ENGINE_URL tell no hidden states.")


def _invalid(why: str) -> ApiError:
    message = f"Invalid value for 'best_of': {why}."
    return ApiError(400, message, code="invalid_value", param="best_of")


def chooser_of(
    service: Service, body: ChatRequest, request: GenerationRequest, policy: str
) -> Chooser | None:
    """What chooses the answers; None where as many are sampled as are given."""
    asked = body.best_of or service.settings.candidates(policy)
    if asked <= request.n or request.params.temperature == 0:
        return None
    reward = service.rewards.of(policy) if service.engine.depth else None
    return Chooser(service.engine, service.metrics, request, policy, reward, asked)


class Chooser:
    """Chooses the answers of one generation; see generation.py."""

    def __init__(
        self,
        engine: Engine,
        metrics: Metrics,
        request: GenerationRequest,
        policy: str,
        reward: ServedReward | None,
        asked: int,
    ) -> None:
        self._engine, self._metrics, self._request, self._policy = engine, metrics, request, policy
        self._reward = reward
        self.candidates = request.n if reward is None else asked  # to sample
        self.record: BestOf | None = None
        if reward is None:
            why = NO_MODEL if engine.depth else NO_STATES
            self._record(BestOf(candidates=asked, chosen=list(range(request.n)), reason=why))

    async def choose(self, candidates: Sequence[Choice]) -> list[Choice]:
        """The answers to give, the best first; `candidates` are in the order sampled."""
        assert self._reward is not None, "without a model nothing is to be chosen"
        model, reason = self._reward.model, None
        draw = draw_of(self._request.params.seed, model.draws)
        scored = [Candidate(one.finish in FINISHED, _logprob(one)) for one in candidates]
        try:
            scored = await self._score(model, draw, candidates, scored)
        except (RuntimeError, ArithmeticError) as error:  # of the engine, or for want of memory
            log.exception("the candidates of %s cannot be scored", self._request.id)
            reason = f"{type(error).__name__}: {error}"[:200]
        counts = counting(scored)
        if not any(counts):
            reason = reason or NONE_COUNTS
        chosen = [candidates[place] for place in ranked(scored)[: self._request.n]]
        self._record(
            BestOf(
                candidates=len(candidates),
                chosen=[choice.index for choice in chosen],
                reward_sha256=self._reward.notice.sha256,
                draw=draw,
                scores=[
                    one.score if counted and reason is None else None
                    for one, counted in zip(scored, counts, strict=True)
                ],
                reason=reason,
            )
        )
        return chosen

    async def _score(
        self,
        model: RewardModel,
        draw: int | None,
        candidates: Sequence[Choice],
        scored: Sequence[Candidate],
    ) -> list[Candidate]:
        """The candidates with score and support; without them where there is no token to judge."""
        assert self._engine.depth is not None
        tokenizer = self._engine.tokenizer
        given = [place for place, one in enumerate(candidates) if one.token_ids]
        asked, *said = await self._engine.states(
            self._request.prompt_ids,
            [candidates[place].token_ids for place in given],
            layers_read(self._engine.depth),
        )

        def ask() -> tuple[list[float], list[float]]:
            texts = [text_of(tokenizer, candidates[place].token_ids) for place in given]
            features = torch.stack(
                [answer_features(asked, *both) for both in zip(said, texts, strict=True)]
            )
            scores, support = model.scores_and_support(features, draw)
            return scores.tolist(), support.tolist()

        found = await off_loop(_MICROSECONDS * len(model.weights), ask)
        told = list(scored)
        for place, score, support in zip(given, *found, strict=True):
            if not math.isfinite(score):
                raise FloatingPointError(f"the score of candidate {place} is no number")
            told[place] = replace(told[place], score=score, support=support)
        return told

    def _record(self, record: BestOf) -> None:
        self.record = record
        outcome = "chosen" if record.reason is None else "first"
        self._metrics.best_of.labels(self._policy, outcome).inc()
        if record.reward_sha256 is not None:
            self._metrics.candidates.labels(self._policy).inc(record.candidates)


def draw_of(seed: int | None, draws: int) -> int | None:
    """The number of the draw, of so many, by which the candidates of a request with that seed are scored, None
    for what the model expects; any without a seed."""
    rng = random.Random(None if seed is None else f"draw {seed}")
    return rng.randrange(draws) if rng.randrange(EXPLORING) == 0 else None


def _logprob(choice: Choice) -> float:
    """The mean log-probability of its tokens."""
    values = [value for delta in choice.deltas for value in delta.logprobs]
    return fmean(values) if values else -math.inf
