"""Turns as the events that serving would have sent, so that the intake takes them in like any other.

Ids follow from the source's, so importing a file twice counts once. The answer is written in this
model's tokens; its log-probabilities are not known, so only update rules that need none learn from it. It
counts as the base's (version 1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from burnish.feedback.events import Completion, Event, FeedbackEvent, InteractionEvent
from burnish.kernels.folder import ModelFolder
from burnish.learner.exchange.turns import RowError, Turn
from burnish.learner.tasks import PackError
from burnish.learner.training.prompts import answer_tokens, task_prompt
from burnish.serving.registry import BASE_VERSION
from pydantic import ValidationError


def events_of(turn: Turn, model: ModelFolder, *, policy: str, tenant: str) -> Iterator[Event]:
    """The answer, then what was thought of it. Raises RowError."""
    digest = hashlib.sha256(f"{tenant}/{policy}/{turn.id}".encode()).hexdigest()[:32]
    interaction_id = f"import-{digest}"
    try:
        prompt = task_prompt(model, turn)
        yield InteractionEvent(
            id=interaction_id,
            time=turn.at,
            tenant=tenant,
            user=turn.user,
            session_id=turn.session,
            policy=policy,
            version=BASE_VERSION,
            messages=[dict(message) for message in turn.messages],
            tools=[dict(tool) for tool in turn.tools] if turn.tools else None,
            prompt_ids=list(prompt),
            completions=[
                Completion(
                    index=0,
                    token_ids=answer_tokens(model, turn.answer),
                    text=turn.answer,
                    finish_reason="stop",
                )
            ],
            metadata={"imported": turn.id, **({"model": turn.model} if turn.model else {})},
        )
        for number, opinion in enumerate(turn.opinions):
            said = FeedbackEvent(
                id=f"import-{digest}-{number}",
                tenant=tenant,
                user=opinion.user or turn.user,
                interaction_id=interaction_id,
                name=opinion.name,  # type: ignore[arg-type]
                value=opinion.value,
                rationale=opinion.rationale,
                metadata={"imported": turn.id},
            )
            yield said.accepted(opinion.at or turn.at)
    except PackError as error:
        raise RowError(f"messages: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RowError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
