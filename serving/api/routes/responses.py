"""/v1/responses: OpenAI's Responses API, stateful, on memory's turns and sessions.

A stored response is a turn; `previous_response_id` goes on from one, and the same conversation is in a
session of memory, whose view takes its place where it is too long and `truncation` is "auto". Left
out: background responses, conversations, tools that run here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal

from burnish.feedback.ids import RESPONSE, new_interaction_id, stem_of
from burnish.feedback.ranges import Label, Word
from burnish.memory import Forgotten, StoreError, Turn, TurnNotFound
from burnish.serving.api import errors
from burnish.serving.api.answering import STREAMED, answer, in_memory, start_chat
from burnish.serving.api.auth import Auth, Principal
from burnish.serving.api.errors import ApiError, disk_full, unsupported
from burnish.serving.api.generation import Generation
from burnish.serving.api.generation_requests import Recall, prompt_tokens
from burnish.serving.api.opt_out import MayRecord, may_record
from burnish.serving.api.responses.formatter import PREFIXES, ResponseFormatter, response_of_item
from burnish.serving.api.responses.items import Item, messages_of
from burnish.serving.api.responses.requests import NAMES, ResponseRequest
from burnish.serving.api.routes.memory.route import Limit, Route
from burnish.serving.api.service import Service, service_of
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import TypeAdapter

_ITEMS: TypeAdapter[list[Item]] = TypeAdapter(list[Item])


def router(auth: Auth) -> APIRouter:
    api = APIRouter(prefix="/v1/responses", tags=["responses"], route_class=Route)
    chat = Depends(auth.require("chat"))

    @api.post("", responses=STREAMED)
    async def create(
        body: ResponseRequest,
        request: Request,
        who: Principal = chat,
        may_record: MayRecord = may_record,
    ) -> Response:
        service = service_of(request)
        if body.session_id is not None:  # read and written with the answer
            who.check_scope("memory", "session_id")
        before = await _before(service, body, who)
        items = await _resolved(service, who, body.new_items)
        response_id = new_interaction_id(
            service.secret, who.tenant, prefix=RESPONSE, recorded=may_record(body.store)
        )
        session = await _session(service, who, body, before, response_id)
        with errors.renamed(NAMES):
            generation = await start_chat(
                service,
                body.chat(_conversation(before, items), session),
                who,
                id=response_id,
                endpoint="responses",
                recall=_recall(body),
                adopts=session == response_id,
            )
        formatter = ResponseFormatter(body, service.engine.tokenizer)

        async def keep(generation: Generation) -> None:
            if body.store:
                kept = _keep(service, generation, formatter, items, before)
                formatter.stored = await in_memory(service, generation, kept)

        return await answer(service, request, generation, formatter, stream=body.stream, keep=keep)

    @api.post("/input_tokens")
    async def count(
        body: ResponseRequest, request: Request, who: Principal = chat
    ) -> dict[str, Any]:
        service = service_of(request)
        before = await _before(service, body, who)
        items = await _resolved(service, who, body.new_items)
        with errors.renamed(NAMES):
            asked = body.chat(_conversation(before, items), None)
            tokens = await prompt_tokens(service, asked)
        return {"object": "response.input_tokens", "input_tokens": tokens}

    @api.get("/{response_id}")
    async def get(
        response_id: Label,
        request: Request,
        include: Annotated[list[Word], Query(max_length=64)] = [],  # noqa: B006 - all of it is told anyway
        stream: bool = False,
        who: Principal = chat,
    ) -> dict[str, Any]:
        if stream:
            raise unsupported("stream", "A stored response is sent whole.")
        return (await service_of(request).memory.turns.get(who.tenant, response_id)).response

    @api.get("/{response_id}/input_items")
    async def input_items(
        response_id: Label,
        request: Request,
        limit: Limit = 20,
        order: Literal["asc", "desc"] = "desc",
        after: Label | None = None,
        include: Annotated[list[Word], Query(max_length=64)] = [],  # noqa: B006
        who: Principal = chat,
    ) -> dict[str, Any]:
        """What was new in the input of a response."""
        turn = await service_of(request).memory.turns.get(who.tenant, response_id)
        items = turn.input if order == "asc" else turn.input[::-1]
        begin = next((i + 1 for i, item in enumerate(items) if item["id"] == after), 0)
        if after is not None and not begin:
            raise ApiError(
                400, f"There is no item '{after}' here.", param="after", code="invalid_value"
            )
        page = items[begin : begin + limit]
        return {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": begin + limit < len(items),
        }

    @api.delete("/{response_id}")
    async def delete(response_id: Label, request: Request, who: Principal = chat) -> dict[str, Any]:
        service = service_of(request)
        if service.disk.is_full():
            raise disk_full(service.disk)
        await service.memory.turns.delete(who.tenant, response_id)
        return {"id": response_id, "object": "response.deleted", "deleted": True}

    return api


def _recall(body: ResponseRequest) -> Recall:
    if body.session_id is not None:
        return "always"
    return "overflow" if body.truncation == "auto" else "never"


async def _before(service: Service, body: ResponseRequest, who: Principal) -> list[Turn]:
    """The turns that are gone on from, oldest first."""
    if body.previous_response_id is None:
        return []
    try:
        return await service.memory.turns.conversation(who.tenant, body.previous_response_id)
    except TurnNotFound as error:
        message = f"The previous response cannot be gone on from: {error}."
        raise ApiError(
            400, message, param="previous_response_id", code="previous_response_not_found"
        ) from error


async def _session(
    service: Service, who: Principal, body: ResponseRequest, before: Sequence[Turn], new: str
) -> str | None:
    """The session that holds the conversation so far, or a `new` one if another answer went on from
    the same turn; None if nothing is to be kept."""
    if body.session_id is not None:
        return body.session_id
    if not body.store:
        return None
    if not before:
        return new
    last = before[-1]
    with suppress(Forgotten):
        if await service.memory.steps(who.tenant, last.session) == last.steps:
            return last.session
    return new


async def _resolved(
    service: Service, who: Principal, items: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The items with references replaced by what they stand for. Raises ApiError."""
    turns: dict[str, Turn] = {}
    found = []
    for place, item in enumerate(items):
        if item.keys() - {"type"} == {"id"}:
            item = await _referenced(service, who, item["id"], turns, f"input[{place}].id")
        found.append(item)
    return found


async def _referenced(
    service: Service, who: Principal, item_id: str, turns: dict[str, Turn], param: str
) -> dict[str, Any]:
    response = response_of_item(item_id)
    try:
        if response not in turns:
            turns[response] = await service.memory.turns.get(who.tenant, response)
        held = (*turns[response].input, *turns[response].output)
        return next(item for item in held if item["id"] == item_id)
    except (TurnNotFound, StopIteration) as error:
        message = f"There is no item '{item_id}', or not any more: send the item itself."
        raise ApiError(404, message, param=param, code="item_not_found") from error


def _conversation(before: Sequence[Turn], items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    said = [item for turn in before for item in (*turn.input, *turn.output)]
    return messages_of(_ITEMS.validate_python([*said, *items]))


async def _keep(
    service: Service,
    generation: Generation,
    formatter: ResponseFormatter,
    items: list[dict[str, Any]],
    before: Sequence[Turn],
) -> None:
    """Keep the turn. Raises StoreError, RedisError."""
    if service.disk.is_full():
        raise StoreError(str(service.disk))
    asked = generation.request
    session = asked.session_id or asked.id
    response = formatter.response(generation)
    turn = Turn(
        id=asked.id,
        input=[
            {"id": _input_id(asked.id, place, item), **item} for place, item in enumerate(items)
        ],
        output=response["output"],
        response=response,
        session=session,
        steps=await service.memory.steps(asked.tenant, session),
        before=before[-1].chain if before else (),
    )
    await service.memory.turns.keep(asked.tenant, turn, asked.user)


def _input_id(response_id: str, place: int, item: dict[str, Any]) -> str:
    kinds = {"reasoning": PREFIXES["reasoning"], "function_call": PREFIXES["tool_call"]}
    kinds["function_call_output"] = "fco"
    return f"{kinds.get(item['type'], PREFIXES['content'])}_{stem_of(response_id)}_in{place}"
