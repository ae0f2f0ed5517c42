"""The span of a generation, by OpenTelemetry's GenAI conventions; below it how the engine spent the time.

Made once the generation is over, from the times it kept. Left out: prompts, answers and who asked.
"""

from __future__ import annotations

import time

from burnish.feedback.telemetry import tracing
from burnish.serving.api.generation import Generation

# The conventions name operations, not APIs.
_OPERATIONS = {"text_completion": "text_completion"}


def trace_generation(generation: Generation, operation: str) -> None:
    """`operation` is the formatter's. Does nothing while tracing is off."""
    if not tracing.is_on():
        return
    request, usage = generation.request, generation.usage()
    params, finishes = request.params, [choice.finish for choice in generation.choices]
    name = _OPERATIONS.get(operation, "chat")
    first = generation.first_token_s
    attributes = {
        "gen_ai.operation.name": name,
        "gen_ai.provider.name": "burnish",
        "gen_ai.request.model": request.model,
        "gen_ai.request.max_tokens": params.max_tokens,
        "gen_ai.request.temperature": params.temperature,
        "gen_ai.request.top_p": params.top_p,
        "gen_ai.request.choice.count": request.n,
        "gen_ai.request.stream": generation.streaming,
        "gen_ai.response.id": request.id,
        "gen_ai.response.model": generation.lease.ref,
        "gen_ai.response.finish_reasons": [finish or "cancelled" for finish in finishes],
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.output_tokens": usage["completion_tokens"],
        "gen_ai.usage.cache_read.input_tokens": generation.cached_tokens,
    }
    if params.seed is not None:
        attributes["gen_ai.request.seed"] = params.seed
    if first is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = first
    ended = time.time()
    began = ended - generation.seconds
    error = None if all(finishes) else "cancelled"
    chat = tracing.past(f"{name} {request.model}", began, ended, attributes, error=error)
    if chat is not None and first is not None:
        tracing.past("engine prefill", began, began + first, parent=chat)
        tracing.past("engine decode", began + first, ended, parent=chat)
