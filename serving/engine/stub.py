"""`StubEngine`: an engine without a model, for tests.

    engine = StubEngine("Hello there.")                        # the reply to every request
    engine = StubEngine(lambda request: f"I am {request.adapter}.")
    engine = StubEngine()                                      # text drawn from made-up logits
    (answer,) = engine.generate_batch([Request("r", (72, 105))])
    assert engine.requests[0].prompt_ids == (72, 105)

It keeps what every engine keeps: seeds, stop strings, limits, deadlines, adapters by name, the errors.
Tokens are bytes; the hidden states that it tells are vectors drawn for each byte. Given a reply it yields that text, whatever the sampling parameters; without one it
draws printable ASCII, seeded by request, context and adapter, with the real sampler. Left out:
grammars (refused without a reply) and end-of-sequence tokens.
"""

from __future__ import annotations

import asyncio
import threading
import time
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator
from collections.abc import Sequence as SequenceOf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from burnish.serving.engine.detokenizer import IncrementalDetokenizer, Vocabulary
from burnish.serving.engine.sampler import Sampler, TopLogprobs
from burnish.serving.engine.types import (
    Completion,
    Delta,
    EngineError,
    EngineStats,
    EngineStopped,
    PromptTooLong,
    QueueFull,
    Request,
    ScoredToken,
    UnknownAdapter,
    Unsupported,
)

VOCAB = 256
LOGPROB = -0.5  # of every token of a given reply, before temperature
CONTEXT = 3  # tokens that the made-up logits depend on
DEPTH, WIDTH = 2, 8  # of the made-up hidden states

Token = tuple[int, float, float, TopLogprobs]  # id, raw and processed log-probability, alternatives


class StubTokenizer:
    """Bytes are tokens; the chat template is one line per message."""

    all_special_tokens = ("<|end|>",)

    def __len__(self) -> int:
        return VOCAB

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return list(text.encode())

    def get_vocab(self) -> dict[str, int]:
        return {chr(token): token for token in range(VOCAB)}

    def decode(self, ids: SequenceOf[int], **_: Any) -> str:
        return bytes(ids).decode("utf-8", "replace")

    def convert_ids_to_tokens(self, token: int) -> str | None:
        return None  # `decode` says what it spells

    def apply_chat_template(
        self, messages: list[dict], tools: list | None, enable_thinking: bool, **_: Any
    ) -> str:
        lines = [f"{m['role']}: {m['content']}<|end|>" for m in messages]
        if tools:
            lines.insert(0, f"tools: {[tool['function']['name'] for tool in tools]}")
        return "\n".join([*lines, "assistant: " + ("<think>" if enable_thinking else "")])


class StubEngine:
    """An `Engine` whose answers are given or drawn without weights.

    `pace_s` seconds pass before each token of a stream. The attributes may be changed between
    requests; `requests` lists all that were taken on, `running` those not finished yet.
    """

    model_sha256 = "0" * 64
    weights: str | None = "float32"
    kv_cache: str | None = "float32"
    lossless = True
    depth: int | None = DEPTH
    vital: threading.Thread | None = None

    def __init__(
        self,
        reply: str | Callable[[Request], str] | None = None,
        *,
        pace_s: float = 0.0,
        max_requests: int = 64,
        max_model_len: int = 2000,
        fails_after: int | None = None,
    ) -> None:
        """`fails_after`: tokens of a stream after which its step fails with EngineError."""
        self.tokenizer = StubTokenizer()
        self.reply = reply
        self.pace_s = pace_s
        self.max_requests = max_requests
        self.max_model_len = max_model_len
        self.fails_after = fails_after
        self.requests: list[Request] = []
        self.running: list[Request] = []
        self._vocabulary = Vocabulary(self.tokenizer, frozenset())
        self._digests: dict[str, int] = {}  # adapter -> what its weights hash to
        self._accepting, self._aborting = True, False
        self._tokens = self._errors = 0

    async def generate(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Deltas of one token each. Raises what every engine raises."""
        tokens = self._admit(request, limit=True)
        try:
            started = time.monotonic()
            for count, delta in enumerate(self._deltas(request, tokens)):
                await asyncio.sleep(self.pace_s)
                late = request.deadline_s
                if self._aborting:
                    yield Delta("", finish_reason="cancelled")
                    return
                if late is not None and time.monotonic() - started >= late:
                    yield Delta("", finish_reason="deadline")
                    return
                if count == self.fails_after:
                    self._errors += 1
                    raise EngineError("the step failed (fails_after)")
                self._tokens += 1
                yield delta
        finally:
            self.running.remove(request)

    def generate_batch(self, requests: SequenceOf[Request]) -> list[Completion]:
        """All answers, in order, at once: the pace and the limit on requests do not apply."""
        answers = []
        for request in requests:
            tokens = self._admit(request, limit=False)
            deltas = list(self._deltas(request, tokens))
            self.running.remove(request)
            self._tokens += len(deltas)
            answers.append(Completion.join(deltas))
        return answers

    async def states(
        self, prompt: SequenceOf[int], answers: SequenceOf[SequenceOf[int]], layers: int
    ) -> list[torch.Tensor]:
        """Of each byte its own vector, whatever stands before it."""
        vectors = torch.randn(VOCAB, WIDTH, generator=torch.Generator().manual_seed(layers))
        return [vectors[torch.tensor(tokens)] for tokens in (prompt, *answers)]

    def _admit(self, request: Request, limit: bool) -> Iterator[Token]:
        if not self._accepting:
            raise EngineStopped("the engine is shutting down")
        if limit and len(self.running) >= self.max_requests:
            raise QueueFull(f"{len(self.running)} requests are running already")
        if not 0 < len(request.prompt_ids) < self.max_model_len:
            raise PromptTooLong(
                f"the prompt has {len(request.prompt_ids)} tokens; the model's context is"
                f" {self.max_model_len}"
            )
        if request.adapter is not None and request.adapter not in self._digests:
            raise UnknownAdapter(f"no adapter {request.adapter!r} is resident")
        tokens = self._drawn(request) if self.reply is None else self._given(request)
        self.requests.append(request)
        self.running.append(request)
        return tokens

    def _deltas(self, request: Request, tokens: Iterator[Token]) -> Iterator[Delta]:
        """The tokens with their text, up to a stop string, the reply's end or the limit."""
        params = request.params
        limit = min(params.max_tokens, self.max_model_len - len(request.prompt_ids))
        detokenizer = IncrementalDetokenizer(self._vocabulary, params.stop)
        prompt = _scored(request)
        pending = next(tokens, None)
        if pending is None:
            yield Delta("", finish_reason="stop")
        count = 0
        while pending is not None:
            token, raw, processed, top = pending
            count += 1
            text, stopped = detokenizer.push(token)
            pending = None if stopped or count == limit else next(tokens, None)
            reason = None
            if stopped:
                reason = "stop"
            elif pending is None:
                reason = "length" if count == limit and next(tokens, None) else "stop"
                text += detokenizer.flush()
            shown = (top,) if params.logprobs else ()
            yield Delta(
                text,
                (token,),
                (raw,),
                (processed,),
                shown,
                reason,
                detokenizer.stopped_by,
                prompt=prompt if count == 1 else (),
            )

    def _given(self, request: Request) -> Iterator[Token]:
        """The reply's bytes. A lower temperature makes each likelier, as it would with a model."""
        assert self.reply is not None
        text = self.reply if isinstance(self.reply, str) else self.reply(request)
        params = request.params
        others = range(params.logprobs)
        processed = LOGPROB * params.temperature
        return (
            (token, LOGPROB, processed, tuple(((token + i) % VOCAB, LOGPROB - i) for i in others))
            for token in text.encode()
        )

    def _drawn(self, request: Request) -> Iterator[Token]:
        """Printable ASCII without end, drawn by the real sampler from made-up logits."""
        params = request.params
        if params.grammar:
            raise Unsupported("grammar", "a stub without a reply does not follow grammars")
        sampler = Sampler(1, VOCAB, frozenset(), torch.device("cpu"))
        seed = len(self.requests) if params.seed is None else params.seed
        sampler.admit(0, params, seed, prompt=request.prompt_ids)
        weights = 0 if request.adapter is None else self._digests[request.adapter]
        return self._draw(sampler, weights, list(request.prompt_ids))

    def _draw(self, sampler: Sampler, weights: int, context: list[int]) -> Iterator[Token]:
        row, prompt = np.array([0]), len(context)
        while True:
            key = zlib.crc32(bytes(token % VOCAB for token in context[-CONTEXT:]), weights)
            logits = torch.randn(VOCAB, generator=torch.Generator().manual_seed(key))
            logits[:32] = logits[127:] = -torch.inf
            drawn = np.array([len(context) - prompt])
            tokens, raw, processed, (top,) = sampler.draw(logits[None], row, drawn)
            if sampler.failures:
                raise sampler.failures[0]
            sampler.update(0, tokens.tolist())
            context.append(int(tokens[0]))
            yield context[-1], float(raw[0]), float(processed[0]), top

    # -- adapters ------------------------------------------------------------------------------

    @property
    def adapters(self) -> tuple[str, ...]:
        return tuple(self._digests)

    def load_adapter(self, name: str, folder: Path) -> None:
        """Remember a hash of the weights, unless `name` is resident. ValueError for no weights."""
        if name in self._digests:
            return
        try:
            weights = (folder / "adapter_model.safetensors").read_bytes()
        except OSError as error:
            raise ValueError(f"cannot read the adapter in {folder}: {error}") from error
        if not weights:
            raise ValueError(f"the adapter in {folder} is empty")
        self._digests[name] = zlib.crc32(weights)

    def unload_adapter(self, name: str) -> None:
        """Refuse new requests for `name`; running ones go on. UnknownAdapter."""
        if name not in self._digests:
            raise UnknownAdapter(f"no adapter {name!r} is resident")
        del self._digests[name]

    # -- start and stop ------------------------------------------------------------------------

    async def start(self) -> None:
        self._accepting, self._aborting = True, False

    async def stop(self, drain: bool = True) -> None:
        """Take no more requests; running ones finish, or end as cancelled at their next token."""
        self._accepting, self._aborting = False, not drain

    def stats(self) -> EngineStats:
        return EngineStats(
            waiting=0,
            running=len(self.running),
            free_blocks=0,
            total_blocks=0,
            tokens_total=self._tokens,
            prompt_tokens_total=sum(len(request.prompt_ids) for request in self.requests),
            steps_total=self._tokens,
            requests_total=len(self.requests),
            errors_total=self._errors,
            reused_total=0,
            preempted_total=0,
            adapters=self.adapters,
        )


def _scored(request: Request) -> tuple[ScoredToken, ...]:
    """The prompt's tokens, all as likely as those of a given reply."""
    wanted = request.params.prompt_logprobs
    if wanted is None:
        return ()
    others = range(wanted)
    return tuple(
        (LOGPROB, tuple(((token + i) % VOCAB, LOGPROB - i) for i in others))
        for token in request.prompt_ids[1:]
    )
