"""/v1/feedback: judgements on interactions and sessions, read back and taken back.

202 means the judgement is on disk. The interaction's id proves by its signature that this
tenant's keys received it, so nothing is looked up. A product's page has a feedback token instead of a
key (granted.py), which /v1/feedback/tokens makes. Left out: what a judgement is worth.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Annotated, Any

from burnish.feedback.contract import FEEDBACK, UNMATCHED_KEY
from burnish.feedback.errors import DiskFull, EventTooLarge, FeedbackError, SpoolFull
from burnish.feedback.events import FeedbackEvent
from burnish.feedback.fates import Fate
from burnish.feedback.fates import read as read_fate
from burnish.feedback.ranges import Choice, Id, Label, Name, Number, Paragraph, Text, Word
from burnish.feedback.spool.spool import Receipt
from burnish.feedback.telemetry import tracing
from burnish.serving.api import fates, granted, judgeable
from burnish.serving.api.auth import Auth, Principal
from burnish.serving.api.errors import ApiError, disk_full, from_validation
from burnish.serving.api.json_body import Route
from burnish.serving.api.off_loop import off_loop
from burnish.serving.api.recorder import append
from burnish.serving.api.service import Service, service_of
from burnish.serving.api.ticks import why_nothing_trained
from burnish.serving.live import PolicyStatus
from burnish.serving.registry import RegistryError
from fastapi import APIRouter, Body, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, ValidationError
from redis.exceptions import RedisError

MAX_BATCH = 500
_MICROSECONDS = 100  # to check or to encode a judgement


class FeedbackIn(BaseModel):
    """One judgement as clients send it. `id` makes sending it again harmless."""

    model_config = ConfigDict(extra="forbid")

    id: Id | None = None
    interaction_id: Label | None = None
    session_id: Name | None = None
    choice: Choice = 0
    user: Label | None = None
    name: Word
    value: bool | Number | Text
    over: Label | None = None
    """Of a preference: the other answer's interaction."""
    rationale: Paragraph | None = None
    metadata: dict[str, Any] = {}


_ONE = FeedbackIn.model_json_schema()
_BATCH = {"type": "array", "items": _ONE, "minItems": 1, "maxItems": MAX_BATCH}
_BODY = {"required": True, "content": {"application/json": {"schema": {"anyOf": [_ONE, _BATCH]}}}}


def router(auth: Auth) -> APIRouter:
    api = APIRouter(prefix="/v1/feedback", tags=["feedback"], route_class=Route)
    caller = Depends(auth.require("feedback", or_token=True))

    @api.post("", status_code=202, openapi_extra={"requestBody": _BODY})
    async def give(
        request: Request, body: Annotated[Any, Body()], who: Principal = caller
    ) -> dict[str, Any]:
        service = service_of(request)
        if who.grant is not None:
            body = granted.filled(who.grant, body)
        if not isinstance(body, list):
            event = _event(service, who, body, "")
            return _accepted(event, (await _store(service, [event]))[0])
        if not 0 < len(body) <= MAX_BATCH:
            raise ApiError(400, f"A batch has 1 to {MAX_BATCH} judgements.", code="invalid_value")
        events = await off_loop(
            _MICROSECONDS * len(body),
            lambda: [_event(service, who, item, f"[{i}].") for i, item in enumerate(body)],
        )
        receipts = await _store(service, events)
        given = [_accepted(event, r) for event, r in zip(events, receipts, strict=True)]
        return {"object": "list", "data": given}

    @api.get("")
    async def read(
        request: Request,
        interaction_id: Label | None = None,
        session_id: Name | None = None,
        who: Principal = caller,
    ) -> dict[str, Any]:
        service = service_of(request)
        if who.grant is not None:
            granted.check_interaction(who.grant, interaction_id)
            interaction_id = who.grant.interaction_id
        target = interaction_id or session_id
        if target is None or (interaction_id and session_id):
            message = "Name one of interaction_id and session_id in the query."
            raise ApiError(400, message, param="interaction_id", code="missing_required_parameter")
        if interaction_id is not None:
            judgeable.check_own(service, who, interaction_id, "interaction_id")
        standing = await asyncio.to_thread(service.spool.judgements, who.tenant, target)
        grant = who.grant
        seen = [one for one in standing if grant is None or granted.covers(grant, one)]
        return {"object": "list", "data": [_shown(event) for event in seen]}

    @api.get("/{feedback_id:path}")
    async def fate(request: Request, feedback_id: Id, who: Principal = caller) -> dict[str, Any]:
        """A judgement that this server accepted, whether it stands, what became of it (`fate`), and why it
        counts nothing."""
        service = service_of(request)
        row = await asyncio.to_thread(service.spool.find, who.tenant, feedback_id)
        if row is None or not (who.grant is None or granted.covers(who.grant, row.event)):
            raise _unknown(feedback_id)
        known = await _known(service, row.event, row.state)
        told = fates.told(row.event, known, time.time())
        return {**_shown(row.event), "state": row.state, "problem": known.problem, "fate": told}

    @api.delete("/{feedback_id:path}", responses={202: {"description": "Known elsewhere"}})
    async def retract(
        request: Request,
        response: Response,
        feedback_id: Id,
        interaction_id: Label | None = None,
        who: Principal = caller,
    ) -> dict[str, Any]:
        """Take back a judgement of this tenant's, on whichever server it was accepted: 200 where
        this one knows it, else 202, since it is taken back where it is known."""
        service = service_of(request)
        if interaction_id is not None:
            judgeable.check_own(service, who, interaction_id, "interaction_id")
        known = await asyncio.to_thread(service.spool.find, who.tenant, feedback_id)
        if who.grant is not None and not (known and granted.covers(who.grant, known.event)):
            raise _unknown(feedback_id)
        response.status_code = 202 if known is None else 200
        try:
            await service.spool.retract(who.tenant, feedback_id, interaction_id)
        except FeedbackError as error:
            raise _refusal(error) from error
        return {"id": feedback_id, "object": "feedback", "deleted": True}

    return api


def _unknown(feedback_id: str) -> ApiError:
    message = f"This server has accepted no feedback '{feedback_id}', or forgotten it."
    return ApiError(404, message, param="id", code="feedback_not_found")


async def _known(service: Service, event: FeedbackEvent, state: str) -> fates.Known:
    """What the learner and the registry tell of a judgement; where they are away, what is left."""
    redis: Any = service.redis
    fate, problem, idle, away = Fate(), None, None, False
    try:
        why = await redis.hget(UNMATCHED_KEY, f"{event.tenant}/{event.id}")
        problem = why.decode() if isinstance(why, bytes) else why
        fate = await read_fate(redis, event.event_id)
        if fate.version is None:
            idle = await why_nothing_trained(redis, fate.policy)
    except RedisError:
        away = True  # the learner is away, and with it what it would tell
    served, challenger, tried_at = dict[int, float](), None, None
    for live in service.policies.status():
        if live.policy == fate.policy and fate.version is not None:
            challenger = await _challenger(service, live)
            served = await _served(service, live)
            tried_at = await _tried_at(service, live.policy, fate.version)
    return fates.Known(
        state=state,
        fate=fate,
        problem=problem,
        away=away,
        served=served,
        challenger=challenger,
        tried_at=tried_at,
        idle=idle,
    )


async def _challenger(service: Service, live: PolicyStatus) -> int | None:
    """By the registry, which is ahead of what is loaded here; where that cannot be asked, what is loaded."""
    try:
        return await asyncio.to_thread(service.registry.challenger_version, live.policy)
    except RegistryError:
        return live.challenger


async def _tried_at(service: Service, policy: str, version: int) -> float | None:
    """When the canary of a version began; None where that cannot be asked, too."""
    try:
        return await asyncio.to_thread(service.registry.canaries.tried_at, policy, version)
    except RegistryError:
        return None


async def _served(service: Service, live: PolicyStatus) -> dict[int, float]:
    """When each version first became champion; the one that serves is among them whatever is recorded."""
    try:
        moves = await asyncio.to_thread(service.registry.history, live.policy)
    except RegistryError:
        moves = []
    found = {move.after: move.at for move in reversed(moves) if move.after is not None}
    if live.champion is not None:
        found.setdefault(live.champion, live.swapped_at or service.started_at)
    return found


def _event(service: Service, who: Principal, body: Any, place: str) -> FeedbackEvent:
    """The event for one judgement. Raises ApiError naming the field (with its place in a batch)."""
    try:
        given = FeedbackIn.model_validate(body)
        if given.interaction_id is not None:
            judgeable.check_own(service, who, given.interaction_id, f"{place}interaction_id")
            judgeable.check_recorded(given.interaction_id, f"{place}interaction_id")
            judgeable.check_choice(given.interaction_id, given.choice, f"{place}choice")
        _check_over(service, who, given, f"{place}over")
        fields = given.model_dump(exclude={"id", "over"})
        if given.over is not None:
            fields["metadata"]["over"] = given.over
        return FeedbackEvent(
            id=given.id or f"fb-{uuid.uuid4().hex}",
            tenant=who.tenant,
            key_id=granted.key_id(who),
            **fields,
        )
    except ValidationError as error:
        raise _naming_field(error, place) from error


def _naming_field(error: ValidationError, place: str) -> ApiError:
    found = error.errors()
    # Rules over several fields have no location of their own; these two are ours.
    if not found[0]["loc"]:
        about_target = "session_id" in found[0]["msg"]
        found[0]["loc"] = ("interaction_id" if about_target else "value",)
    if found[0]["loc"][0] == "name":
        found[0]["msg"] = "one of thumbs, score, comment, correction, signal, preference"
    found[0]["loc"] = (f"{place}{found[0]['loc'][0]}",)
    return from_validation(found[:1])


def _check_over(service: Service, who: Principal, given: FeedbackIn, param: str) -> None:
    """A preference, and nothing else, names the other answer, which this tenant was given too."""
    if given.name == "preference" and (given.over is None or given.over == given.interaction_id):
        message = "A preference names the other answer's interaction_id as 'over'."
        raise ApiError(400, message, param=param, code="missing_required_parameter")
    if given.over is None:
        return
    if given.name != "preference":
        message = f"'over' belongs to a preference, not to {given.name}."
        raise ApiError(400, message, param=param, code="invalid_value")
    judgeable.check_own(service, who, given.over, param)
    judgeable.check_recorded(given.over, param)


async def _store(service: Service, events: list[FeedbackEvent]) -> list[Receipt]:
    try:
        entries = [(FEEDBACK, event.key, event) for event in events]
        receipts = await append(service.spool, lambda: entries, _MICROSECONDS * len(events))
    except FeedbackError as error:
        raise _refusal(error) from error
    for event in events:
        shown = str(event.value) if event.name in ("thumbs", "signal", "preference") else ""
        service.metrics.evaluations.labels(event.name, shown).inc()
        tracing.event("gen_ai.evaluation.result", _evaluation(event, shown))
    return receipts


def _evaluation(event: FeedbackEvent, label: str) -> dict[str, Any]:
    """A judgement by OpenTelemetry's GenAI conventions, without what people wrote."""
    told: dict[str, Any] = {"gen_ai.evaluation.name": event.name}
    if label:
        told["gen_ai.evaluation.score.label"] = label
    if event.name == "score":
        told["gen_ai.evaluation.score.value"] = event.value
    if event.interaction_id is not None:
        told["gen_ai.response.id"] = event.interaction_id
    return told


def _refusal(error: FeedbackError) -> ApiError:
    match error:
        case SpoolFull():
            message = f"The spool is full, try again later: {error}"
            return ApiError(503, message, code="spool_full", retry_after=10)
        case DiskFull():
            return disk_full(error)
        case EventTooLarge():
            return ApiError(413, f"This judgement is too large: {error}", code="too_large")
    return ApiError(503, f"The judgement could not be stored: {error}", code="spool_failed")


def _accepted(event: FeedbackEvent, receipt: Receipt) -> dict[str, Any]:
    """`status` tells a repeated post ("unchanged") and another body under a known id ("replaced")."""
    return {"id": event.id, "object": "feedback", "status": receipt.status}


def _shown(event: FeedbackEvent) -> dict[str, Any]:
    shown = event.model_dump(
        mode="json", exclude={"tenant", "revision", "key_id"}, exclude_none=True
    )
    return {**shown, "object": "feedback"}
