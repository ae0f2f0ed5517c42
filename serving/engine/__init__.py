"""The engine: token ids in, sampled token ids out, many requests and policy versions at once."""

from burnish.serving.engine.grammars import json_grammar
from burnish.serving.engine.local import LocalEngine
from burnish.serving.engine.stub import StubEngine
from burnish.serving.engine.types import (
    BadGrammar,
    BadPrompt,
    Completion,
    Delta,
    Engine,
    EngineError,
    EngineFailed,
    EngineStats,
    EngineStopped,
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
    "BadPrompt",
    "Completion",
    "Delta",
    "Engine",
    "EngineError",
    "EngineFailed",
    "EngineStats",
    "EngineStopped",
    "LocalEngine",
    "PromptTooLong",
    "QueueFull",
    "Request",
    "SamplingParams",
    "StubEngine",
    "Thinking",
    "UnknownAdapter",
    "Unsupported",
    "json_grammar",
]
