"""What memory needs of the served model: a summariser that asks the champion, on the engine."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from burnish.memory import PolicyFailed
from burnish.serving.api.answer_parser import AnswerParser
from burnish.serving.api.chat_template import render
from burnish.serving.api.off_loop import off_loop
from burnish.serving.engine import (
    Engine,
    EngineError,
    Request,
    SamplingParams,
    json_grammar,
)
from burnish.serving.live import UnknownModel, VersionLease, VersionUnavailable

MAX_JSON_TOKENS = 1024
TENANT = "memory"  # background is a tenant of its own, as the engine is fair among tenants


class EngineSummariser:
    """Prompts the champion of a policy, at lower priority than clients."""

    def __init__(self, engine: Engine, acquire: Callable[[], Awaitable[VersionLease]]) -> None:
        self._engine = engine
        self._acquire = acquire

    @property
    def window(self) -> int:
        return self._engine.max_model_len // 2

    async def __call__(self, prompt: str, max_tokens: int) -> str:
        """Raises PolicyFailed."""
        return await self._answer(prompt, max_tokens)

    async def in_schema(self, prompt: str, schema: Mapping[str, Any]) -> str:
        """JSON that keeps to the schema, unless it is cut off. Raises PolicyFailed."""
        return await self._answer(prompt, MAX_JSON_TOKENS, json_grammar(dict(schema)))

    async def _answer(self, prompt: str, max_tokens: int, grammar: str = "") -> str:
        messages = [{"role": "user", "content": prompt}]
        rendered = await off_loop(
            len(prompt), lambda: render(self._engine.tokenizer, messages, None, thinking=False)
        )
        ids = rendered.ids
        max_new_tokens = self._engine.max_model_len - len(ids)
        if max_new_tokens < 1:
            raise PolicyFailed("the steps do not fit the model")
        params = SamplingParams(
            temperature=0.0, max_tokens=max(1, min(max_tokens, max_new_tokens)), grammar=grammar
        )
        try:
            lease = await self._acquire()
        except (UnknownModel, VersionUnavailable) as error:
            raise PolicyFailed(f"no version to ask: {error}") from error
        parser = AnswerParser(in_reasoning=False, tools=False)
        text: list[str] = []
        request = Request(
            f"summary-{uuid.uuid4().hex}", ids, params, lease.adapter, priority=-1, tenant=TENANT
        )
        try:
            async with aclosing(self._engine.generate(request)) as deltas:  # type: ignore[type-var]
                async for delta in deltas:
                    text += [p.text for p in parser.feed(delta.text) if p.kind == "content"]
        except EngineError as error:
            raise PolicyFailed(f"the model cannot answer now: {error}") from error
        finally:
            lease.release()
        text += [part.text for part in parser.finish() if part.kind == "content"]
        return "".join(text)
