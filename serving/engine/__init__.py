"""The engine: token ids in, sampled token ids out, many requests and policy versions at once."""

from burnish.serving.engine.engine import LocalEngine
from burnish.serving.engine.types import (
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
    UnknownAdapter,
)

__all__ = [
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
    "UnknownAdapter",
]
