"""POST /v1/chat/completions and /v1/completions: OpenAI's stateless shapes."""

from __future__ import annotations

from contextlib import ExitStack

from burnish.serving.api.answering import (
    STREAMED,
    answer,
    lease_of,
    released_on_failure,
    start_chat,
)
from burnish.serving.api.auth import Auth, Principal
from burnish.serving.api.chat_formatters import ChatFormatter, CompletionFormatter
from burnish.serving.api.chat_requests import ChatRequest
from burnish.serving.api.completion_requests import CompletionRequest
from burnish.serving.api.generation import Generation
from burnish.serving.api.generation_requests import completion_request
from burnish.serving.api.json_body import Route
from burnish.serving.api.opt_out import MayRecord, may_record
from burnish.serving.api.service import service_of
from fastapi import APIRouter, Depends, Request, Response


def router(auth: Auth) -> APIRouter:
    api = APIRouter(prefix="/v1", tags=["chat"], route_class=Route)
    chat = Depends(auth.require("chat"))

    @api.post("/chat/completions", responses=STREAMED)
    async def chat_completions(
        body: ChatRequest,
        request: Request,
        who: Principal = chat,
        may_record: MayRecord = may_record,
    ) -> Response:
        service = service_of(request)
        if body.session_id is not None:  # read and written with the answer
            who.check_scope("memory", "session_id")
        generation = await start_chat(service, body, who, recorded=may_record(body.store))
        formatter = ChatFormatter(
            service.engine.tokenizer,
            logprobs=body.logprobs,
            usage=body.wants_usage,
            mode=body.logprobs_mode,
        )
        return await answer(service, request, generation, formatter, stream=body.stream)

    @api.post("/completions", responses=STREAMED)
    async def completions(
        body: CompletionRequest,
        request: Request,
        who: Principal = chat,
        may_record: MayRecord = may_record,
    ) -> Response:
        service = service_of(request)
        generations: list[Generation] = []
        with ExitStack() as begun:  # none is left running where a later prompt is refused
            for prompt in body.prompts:
                lease = await lease_of(service, body.model, who, body.user)
                with released_on_failure(lease):
                    asked = await completion_request(
                        service, body, prompt, who, recorded=may_record(body.store)
                    )
                generation = Generation(service.engine, asked, lease, [None] * asked.n)
                begun.callback(generation.close)
                generations.append(generation)
            begun.pop_all()
        first, *more = generations
        formatter = CompletionFormatter(service.engine.tokenizer, body, generations)
        return await answer(service, request, first, formatter, stream=body.stream, more=more)

    return api
