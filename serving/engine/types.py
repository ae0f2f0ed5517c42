"""The engine's interface: requests in, deltas out, and the errors.

    EngineError (RuntimeError)          a step failed; the request is lost, the engine goes on
    ├── QueueFull                       try again later
    ├── PromptTooLong (ValueError)      this request can never fit
    ├── BadPrompt (ValueError)          a token of the prompt is not in the vocabulary
    ├── BadGrammar (ValueError)         the request's grammar does not compile
    ├── UnknownAdapter (KeyError)       the request names a version that is not resident
    ├── Unsupported (ValueError)        this engine cannot do what a parameter asks; it is named
    └── EngineStopped                   the engine no longer takes requests
        └── EngineFailed                its loop has ended by a failure, and its process has to end

Left out on purpose: chat messages, tools and tenants. The engine knows token ids and versions.
"""

from __future__ import annotations

import math
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class EngineError(RuntimeError):
    """A step of the engine failed, or it refuses a request (the subclasses say why)."""


class QueueFull(EngineError):
    """The queue of waiting requests is full."""


class PromptTooLong(EngineError, ValueError):
    """Prompt and room for an answer exceed the model's context or the whole KV cache."""


class BadPrompt(EngineError, ValueError):
    """A token of the prompt is not in the vocabulary."""


class BadGrammar(EngineError, ValueError):
    """A grammar does not compile, or asks for what cannot be done; the message says what."""


class UnknownAdapter(EngineError, KeyError):
    """No adapter of that name is resident."""

    __str__ = RuntimeError.__str__  # KeyError would print the message quoted


class Unsupported(EngineError, ValueError):
    """This engine cannot do what the parameter asks. `param` is its name in SamplingParams."""

    def __init__(self, param: str, why: str) -> None:
        super().__init__(f"{param}: {why}")
        self.param = param


class EngineStopped(EngineError):
    """The engine is draining or has stopped."""


class EngineFailed(EngineStopped):
    """The engine's loop has ended by a failure: all its requests are lost, and it takes no more."""


@dataclass(frozen=True)
class Thinking:
    """How an answer may reason before its content, in the token ids of the model's own markup."""

    open: (
        int | None
    )  # begins it; None: no single token does, so only `opened` thinking is recognised
    end: tuple[int, ...]  # ends it
    close: tuple[int, ...]  # forced when the budget is spent: `end` and what surrounds it
    opened: bool = False  # by the prompt
    budget: int | None = None  # tokens after which it is closed; None: unlimited

    def __post_init__(self) -> None:
        if not self.end:
            raise ValueError("thinking needs tokens that end it")
        if self.budget is not None and self.budget < 0:
            raise ValueError("a thinking budget is at least 0 tokens")
        if self._end_at() is None:
            raise ValueError("the tokens that close the thinking do not end it")

    def _end_at(self) -> int | None:
        """Where in `close` the answer begins."""
        size = len(self.end)
        places = range(size, len(self.close) + 1)
        return next((at for at in places if self.close[at - size : at] == self.end), None)

    @property
    def after_end(self) -> tuple[int, ...]:
        """What stands between the end of the thinking and the answer."""
        return self.close[self._end_at() :]


@dataclass(frozen=True)
class SamplingParams:
    """How to sample. The defaults draw from the model's own distribution."""

    temperature: float = 1.0  # 0 is greedy
    top_p: float = 1.0
    top_k: int = 0  # 0 is off
    min_p: float = 0.0
    seed: int | None = None  # None: the engine draws one
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    logprobs: int = 0  # how many alternatives to report per token
    logprobs_mode: Literal["raw", "processed"] = "raw"  # of which distribution they are
    prompt_logprobs: int | None = None  # of the prompt's tokens too, each with so many alternatives
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0  # divides what prompt and answer hold (Keskar et al., CTRL)
    ignore_eos: bool = False
    grammar: str = ""  # llguidance's; the answer keeps to it (see grammars.py)
    close_at_limit: bool = True  # lead a grammar to an end where the limit would cut it
    thinking: Thinking | None = None  # before the answer; a grammar begins where it ends

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be a finite number")
        if not all(map(math.isfinite, self.logit_bias.values())):
            raise ValueError("logit_bias must be finite numbers")
        if self.temperature < 0:
            raise ValueError("temperature must be at least 0")
        if not 0 < self.repetition_penalty < math.inf:
            raise ValueError("repetition_penalty must be above 0")
        if not 0 < self.top_p <= 1:
            raise ValueError("top_p must be in (0, 1]")
        if not 0 <= self.min_p <= 1:
            raise ValueError("min_p must be in [0, 1]")
        if self.top_k < 0:
            raise ValueError("top_k must be at least 0")
        if self.max_tokens < 1:
            raise ValueError("max_tokens must be at least 1")
        if not 0 <= self.logprobs <= 20:
            raise ValueError("logprobs must be in 0..20")
        if self.prompt_logprobs is not None and not 0 <= self.prompt_logprobs <= 20:
            raise ValueError("prompt_logprobs must be in 0..20")


@dataclass(frozen=True)
class Request:
    """A request for one answer. `adapter` None is the base model; it is pinned until the last token."""

    id: str
    prompt_ids: tuple[int, ...]
    params: SamplingParams = field(default_factory=SamplingParams)
    adapter: str | None = None
    priority: int = 0  # higher goes first
    tenant: str = ""  # the engine is fair among tenants
    deadline_s: float | None = None  # seconds from submission; then finish_reason "deadline"


ScoredToken = tuple[float, tuple[tuple[int, float], ...]]
"""A token's log-probability under the raw softmax, and the best alternatives, itself among them or not."""


@dataclass(frozen=True)
class Delta:
    """The new tokens of a request since its last delta: those of one step, or of several.

    Token ids are complete; `text` lags behind them while it might become a stop string or an
    unfinished UTF-8 sequence, and never contains the stop string. `logprobs` are of the chosen
    tokens under the raw softmax, `processed_logprobs` under the distribution drawn from; the latter
    may be empty where a remote engine does not report them and they cannot be derived.
    `top` holds per token the best `SamplingParams.logprobs` pairs (token id, log-probability) of the
    distribution that `logprobs_mode` names. A token that the engine forced, such as the end of
    spent thinking, has the processed log-probability 0.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    processed_logprobs: tuple[float, ...] = ()
    top: tuple[tuple[tuple[int, float], ...], ...] = ()
    finish_reason: str | None = None  # "stop", "length", "cancelled", "deadline"
    stopped_by: str = ""  # the stop string that was met
    cached_tokens: int = 0  # of the prompt, found in the cache; the first delta tells
    prompt: tuple[ScoredToken, ...] = ()  # its tokens from the second on; the first delta tells

    @classmethod
    def join(cls, deltas: Sequence[Delta]) -> Delta:
        """Consecutive deltas of one request as one."""
        if len(deltas) == 1:
            return deltas[0]
        return cls(
            text="".join(d.text for d in deltas),
            token_ids=tuple(t for d in deltas for t in d.token_ids),
            logprobs=tuple(x for d in deltas for x in d.logprobs),
            processed_logprobs=tuple(x for d in deltas for x in d.processed_logprobs),
            top=tuple(x for d in deltas for x in d.top),
            finish_reason=deltas[-1].finish_reason,
            stopped_by=deltas[-1].stopped_by,
            cached_tokens=sum(d.cached_tokens for d in deltas),
            prompt=tuple(scored for d in deltas for scored in d.prompt),
        )


@dataclass(frozen=True)
class Completion:
    """A whole answer, as `generate_batch` returns it: the sum of its deltas."""

    token_ids: tuple[int, ...]
    text: str
    logprobs: tuple[float, ...]
    processed_logprobs: tuple[float, ...]
    top: tuple[tuple[tuple[int, float], ...], ...]
    finish_reason: str
    stopped_by: str = ""
    cached_tokens: int = 0
    prompt: tuple[ScoredToken, ...] = ()

    @classmethod
    def join(cls, deltas: Sequence[Delta]) -> Completion:
        """Concatenate the deltas of one request; the last one must carry the finish reason."""
        if not deltas or deltas[-1].finish_reason is None:
            raise ValueError("the deltas do not end in a finish reason")
        return cls(**vars(Delta.join(deltas)))


@dataclass(frozen=True)
class ServerStats:
    """One of the servers that a remote engine asks; counters are of what this process asked of it."""

    address: str
    problem: str | None  # why it is not up, or what it does not do
    up: int  # 0 or 1
    running: int
    requests_total: int
    tokens_total: int
    failures_total: int


@dataclass(frozen=True)
class EngineStats:
    """Counters and gauges of an engine; cheap to read."""

    waiting: int
    running: int
    free_blocks: int
    total_blocks: int
    tokens_total: int  # generated since start
    prompt_tokens_total: int
    steps_total: int
    requests_total: int
    errors_total: int
    reused_total: int  # prompt tokens found in the cache
    preempted_total: int  # requests preempted for lack of blocks
    adapters: tuple[str, ...]
    drafted_total: int = 0  # draft tokens proposed
    accepted_total: int = 0  # draft tokens accepted
    servers: tuple[ServerStats, ...] = ()  # of a remote engine


class Engine(Protocol):
    """What serving and the learner need of an engine, local or remote."""

    tokenizer: Any
    model_sha256: str
    weights: str | None
    """The format in which it keeps the model's weights; None: a server of its own decides."""
    kv_cache: str | None
    """The same of keys and values."""
    lossless: bool
    """Whether neither rounds what the model's files say, so that all such engines answer alike."""
    max_model_len: int
    depth: int | None
    """Layers of the base, whose hidden states it tells; None: it tells none."""

    @property
    def vital(self) -> threading.Thread | None:
        """The thread without which nothing is answered, once started; None where there is none."""
        ...

    def generate(self, request: Request) -> AsyncIterator[Delta]:
        """An async generator of deltas; closing it frees the request's slot at once."""
        ...

    async def states(
        self, prompt: Sequence[int], answers: Sequence[Sequence[int]], layers: int
    ) -> list[Tensor]:
        """Hidden states [T, H] of a prompt, then of each answer to it, after that many layers of the base.
        None of them is empty. Raises Unsupported where `depth` is None."""
        ...

    def load_adapter(self, name: str, folder: Path) -> None:
        """Make a version resident beside the others. Names are never reloaded in place."""
        ...

    def unload_adapter(self, name: str) -> None:
        """Drop a version once its last running request is done."""
        ...

    @property
    def adapters(self) -> tuple[str, ...]: ...

    def stats(self) -> EngineStats: ...

    async def start(self) -> None: ...

    async def stop(self, drain: bool = True) -> None: ...
