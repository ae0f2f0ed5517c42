"""/v1/messages: Anthropic's Messages API, for clients made for Claude."""

from __future__ import annotations

from typing import Any

from burnish.feedback.ids import MESSAGE, new_interaction_id
from burnish.serving.api import errors
from burnish.serving.api.answering import STREAMED, answer, start_chat
from burnish.serving.api.auth import Auth, Principal
from burnish.serving.api.generation_requests import prompt_tokens
from burnish.serving.api.json_body import Route
from burnish.serving.api.messages.formatter import MessageFormatter
from burnish.serving.api.messages.requests import NAMES, CountRequest, MessagesRequest
from burnish.serving.api.opt_out import MayRecord, may_record
from burnish.serving.api.service import service_of
from fastapi import APIRouter, Depends, Request, Response


def router(auth: Auth) -> APIRouter:
    api = APIRouter(prefix="/v1/messages", tags=["messages"], route_class=Route)
    chat = Depends(auth.require("chat"))

    @api.post("", responses=STREAMED)
    async def create(
        body: MessagesRequest,
        request: Request,
        who: Principal = chat,
        may_record: MayRecord = may_record,
    ) -> Response:
        service = service_of(request)
        if body.session_id is not None:  # read and written with the answer
            who.check_scope("memory", "session_id")
        with errors.renamed(NAMES):
            generation = await start_chat(
                service,
                body.chat(),
                who,
                id=new_interaction_id(
                    service.secret, who.tenant, prefix=MESSAGE, recorded=may_record(True)
                ),
                endpoint="messages",
            )
        return await answer(service, request, generation, MessageFormatter(), stream=body.stream)

    @api.post("/count_tokens")
    async def count(body: CountRequest, request: Request, who: Principal = chat) -> dict[str, Any]:
        with errors.renamed(NAMES):
            return {"input_tokens": await prompt_tokens(service_of(request), body.chat())}

    return api
