"""The engine: token ids in, sampled token ids out, many requests and policy versions at once."""

from burnish.serving.engine.engine import LocalEngine
from burnish.serving.engine.grammars import json_grammar
from burnish.serving.engine.types import (
    BadGrammar,
    Completion,
    Delta,
    Engine,
    EngineError,
    EngineStats,
    EngineStopped,
    Finish,
    PromptTooLong,
    QueueFull,
    Request,
    SamplingParams,
    Thinking,
    UnknownAdapter,
    Unsupported,
)

__all__ = [
    "BadGrammar",
    "Completion",
    "Delta",
    "Engine",
    "EngineError",
    "EngineStats",
    "EngineStopped",
    "Finish",
    "LocalEngine",
    "PromptTooLong",
    "QueueFull",
    "Request",
    "SamplingParams",
    "Thinking",
    "UnknownAdapter",
    "Unsupported",
    "json_grammar",
]
