"""Events as rows of the experience database."""

from __future__ import annotations

from typing import Any

from burnish.feedback.events import FeedbackEvent, InteractionEvent
from burnish.learner.tables import JudgementRow


def without_nul(value: Any) -> Any:
    """Without the NUL character, which PostgreSQL's text cannot hold."""
    match value:
        case str():
            return value.replace("\x00", "\ufffd")
        case list():
            return [without_nul(item) for item in value]
        case dict():
            return {without_nul(key): without_nul(item) for key, item in value.items()}
        case _:
            return value


def interaction_row(event: InteractionEvent) -> dict[str, Any]:
    """The attributes of an `InteractionRow`."""
    return dict(
        id=event.id,
        time=event.time.timestamp(),
        tenant=event.tenant,
        user=without_nul(event.user),
        session_id=without_nul(event.session_id),
        policy=event.policy,
        version=event.version,
        messages=without_nul(event.messages),
        tools=without_nul(event.tools),
        prompt_ids=event.prompt_ids,
        sampling=without_nul(_sampling(event)),
        memories=event.memories,
        meta=without_nul(_metadata(event)),
    )


def _sampling(event: InteractionEvent) -> dict[str, Any]:
    """The parameters, and how the answers were chosen among candidates: what is given is no plain sample
    of the policy then."""
    return event.sampling | ({"best_of": event.best_of.model_dump()} if event.best_of else {})


def _metadata(event: InteractionEvent) -> dict[str, Any]:
    """The client's, and which view of a session was answered from, so that what people thought of
    the answer can be counted for the compaction behind it."""
    return event.metadata | ({"memory": event.memory.model_dump()} if event.memory else {})


def completion_rows(event: InteractionEvent) -> list[dict[str, Any]]:
    """The attributes of each answer's `CompletionRow`."""
    return [
        dict(
            interaction_id=event.id,
            choice=completion.index,
            token_ids=completion.token_ids,
            logprobs=completion.logprobs,
            processed_logprobs=completion.processed_logprobs,
            text=without_nul(completion.text),
            finish_reason=completion.finish_reason,
            tool_calls=without_nul(completion.tool_calls),
        )
        for completion in event.completions
    ]


def arm_row(event: InteractionEvent) -> dict[str, Any] | None:
    """The attributes of its `ArmRow`, if a canary had its user."""
    if event.arm is None:
        return None
    return dict(
        interaction_id=event.id,
        policy=event.policy,
        challenger=event.arm.challenger,
        name=event.arm.name,
        subject=event.arm.subject,
        seconds=event.seconds,
    )


def judgement_row(event: FeedbackEvent) -> JudgementRow:
    return JudgementRow(
        tenant=event.tenant,
        id=event.id,
        revision=event.revision,
        time=event.time.timestamp(),
        user=without_nul(event.user),
        key_id=without_nul(event.key_id),
        interaction_id=event.interaction_id,
        session_id=without_nul(event.session_id),
        choice=event.choice,
        name=event.name,
        value=without_nul(event.value),
        rationale=without_nul(event.rationale),
        meta=without_nul(event.metadata),
    )
