"""Experience as rows to train on elsewhere, in the shapes that `datasets` and TRL read.

    log     all there is: messages, answer, tokens, log-probabilities, how it was sampled, version, judgements,
            reward
    kto     prompt, completion, label: one judged answer, liked or not
    dpo     prompt, chosen, rejected: answers to one prompt that were judged differently, and corrections
    sft     messages: liked answers, and what people said that an answer should have been

Chats are lists of messages. Tools are the JSON of a list in the shapes that TRL reads, which is how it wants
them: a table would mix the fields of their schemas. Every row has the interaction's id, the policy's version and, where they were
recorded, the answer's log-probabilities. Rewards are those of the judgements as they stand; who is
trusted is left to the reader.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from burnish.feedback.judgements import Judgement
from burnish.feedback.rewards import reward_of
from burnish.learner.database import Database
from burnish.learner.intake.joining import standing_judgements
from burnish.learner.tables import CompletionRow, ExperienceRow, InteractionRow
from burnish.learner.tasks.task import key_of
from sqlalchemy import select

Shape = Literal["log", "kto", "dpo", "sft"]
SHAPES: tuple[Shape, ...] = ("log", "kto", "dpo", "sft")
BATCH = 500

Row = dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """An answer with the judgements that stand on it; `reward` in [-1, 1], None if they say nothing."""

    interaction: InteractionRow
    completion: CompletionRow
    judgements: Sequence[Judgement]

    @property
    def reward(self) -> float | None:
        found = reward_of(self.judgements)
        return found.value if found else None

    @property
    def answer(self) -> dict[str, Any]:
        calls = self.completion.tool_calls
        message = {"role": "assistant", "content": self.completion.text}
        return {**message, "tool_calls": calls} if calls else message

    @property
    def tools(self) -> str | None:
        offered = self.interaction.tools
        return json.dumps(offered) if offered else None

    @property
    def corrections(self) -> list[str]:
        return [str(j.value) for j in self.judgements if j.name == "correction"]

    @property
    def about(self) -> Row:
        """What every row says of where it comes from."""
        interaction, completion = self.interaction, self.completion
        return {
            "id": interaction.id,
            "choice": completion.choice,
            "policy": interaction.policy,
            "version": interaction.version,
            "at": interaction.time,
            "logprobs": completion.processed_logprobs or completion.logprobs,
        }


def judged_answers(database: Database, policy: str) -> Iterator[Judged]:
    """Every judged answer of a policy, in the order in which they were judged."""
    query = (
        select(ExperienceRow, InteractionRow, CompletionRow)
        .join(InteractionRow, InteractionRow.id == ExperienceRow.interaction_id)
        .join(
            CompletionRow,
            (CompletionRow.interaction_id == ExperienceRow.interaction_id)
            & (CompletionRow.choice == ExperienceRow.choice),
        )
        .where(ExperienceRow.policy == policy)
        .order_by(ExperienceRow.judged_at, ExperienceRow.interaction_id, ExperienceRow.choice)
    )
    with database.read() as session:
        for part in session.execute(query).partitions(BATCH):
            keys = [(row.interaction_id, row.choice) for row, _, _ in part]
            standing = standing_judgements(session, keys)
            for (_, interaction, completion), key in zip(part, keys, strict=True):
                yield Judged(interaction, completion, standing[key])


def rows(answers: Iterator[Judged], shape: Shape) -> Iterator[Row]:
    match shape:
        case "log":
            return map(_log, answers)
        case "kto":
            return _kto(answers)
        case "dpo":
            return _dpo(answers)
        case "sft":
            return _sft(answers)


def _log(judged: Judged) -> Row:
    interaction, completion = judged.interaction, judged.completion
    return {
        **judged.about,
        "messages": [*interaction.messages, judged.answer],
        "tools": interaction.tools,
        "prompt_ids": interaction.prompt_ids,
        "token_ids": completion.token_ids,
        "finish_reason": completion.finish_reason,
        "sampling": interaction.sampling,
        "reward": judged.reward,
        "judgements": [_said(judgement) for judgement in judged.judgements],
    }


def _said(judgement: Judgement) -> Mapping[str, Any]:
    kept = ("id", "user", "session_id", "name", "value", "time")
    return {name: value for name, value in asdict(judgement).items() if name in kept}


def _kto(answers: Iterator[Judged]) -> Iterator[Row]:
    for judged in answers:
        if judged.reward:
            yield {
                "prompt": judged.interaction.messages,
                "completion": [judged.answer],
                "tools": judged.tools,
                "label": judged.reward > 0,
                "reward": judged.reward,
                **judged.about,
            }


def _sft(answers: Iterator[Judged]) -> Iterator[Row]:
    for judged in answers:
        wanted = [{"role": "assistant", "content": text} for text in judged.corrections]
        if not wanted and (judged.reward or 0) > 0:
            wanted = [judged.answer]
        for answer in wanted:
            own = answer is judged.answer or not judged.corrections
            about = judged.about if own else {**judged.about, "logprobs": []}
            messages = [*judged.interaction.messages, answer]
            yield {"messages": messages, "tools": judged.tools, **about}


def _dpo(answers: Iterator[Judged]) -> Iterator[Row]:
    """The best against the worst answer to each prompt, and each correction against what it corrects."""
    by_prompt: dict[str, list[Judged]] = defaultdict(list)
    for judged in answers:
        for text in judged.corrections:
            corrected = {"role": "assistant", "content": text}
            yield _pair(judged, [corrected], judged, chosen_about=None)
        if judged.reward is not None:
            key = key_of(judged.interaction.messages, judged.interaction.tools)
            by_prompt[key].append(judged)
    for group in by_prompt.values():
        best = max(group, key=lambda judged: judged.reward or 0.0)
        worst = min(group, key=lambda judged: judged.reward or 0.0)
        if (best.reward or 0) > (worst.reward or 0) and best.answer != worst.answer:
            yield _pair(best, [best.answer], worst, chosen_about=best.about)


def _pair(
    asked: Judged, chosen: list[dict[str, Any]], rejected: Judged, chosen_about: Row | None
) -> Row:
    about = rejected.about
    return {
        "prompt": asked.interaction.messages,
        "chosen": chosen,
        "rejected": [rejected.answer],
        "tools": asked.tools,
        "chosen_id": chosen_about["id"] if chosen_about else None,
        "chosen_version": chosen_about["version"] if chosen_about else None,
        "chosen_logprobs": chosen_about["logprobs"] if chosen_about else [],
        "rejected_id": about["id"],
        "rejected_version": about["version"],
        "rejected_logprobs": about["logprobs"],
        "policy": about["policy"],
    }
