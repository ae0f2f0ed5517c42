"""Faults to inject into an engine: each hits the request that is called `BAD`, and no other.

That request has a prompt of BAD_LENGTH tokens and asks for BAD_TOKENS, which no other does.
"""

from collections.abc import Callable
from typing import Any

import pytest
from burnish.serving.engine import Delta, LocalEngine, Request

Break = Callable[[LocalEngine, pytest.MonkeyPatch], None]
BAD, BAD_LENGTH, BAD_TOKENS = "r99", 12, 15


def raises_for(row_of: Callable[..., bool], then: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if row_of(*args):
            raise KeyError("injected")
        return then(*args, **kwargs)

    return call


def is_bad(request: Request) -> bool:
    return request.id == BAD


def break_add(engine: LocalEngine, patch: pytest.MonkeyPatch) -> None:
    scheduler = engine._core.scheduler
    hit = raises_for(lambda s: is_bad(s.request), scheduler.add)
    patch.setattr(scheduler, "add", hit)


def break_scheduler_admit(engine: LocalEngine, patch: pytest.MonkeyPatch) -> None:
    kv = engine._core.kv
    hit = raises_for(lambda tokens, *_: len(tokens) == BAD_LENGTH - 1, kv.keys)
    patch.setattr(kv, "keys", hit)


def break_runner_admit(engine: LocalEngine, patch: pytest.MonkeyPatch) -> None:
    runner = engine._core._runner
    patch.setattr(runner, "admit", raises_for(lambda s: is_bad(s.request), runner.admit))


def break_draft(engine: LocalEngine, patch: pytest.MonkeyPatch) -> None:
    runner = engine._core._runner
    patch.setattr(runner, "draft", raises_for(lambda s, *_: is_bad(s.request), runner.draft))


def break_sampler(engine: LocalEngine, patch: pytest.MonkeyPatch) -> None:
    """In the draw of one row among others that are drawn by the same call."""
    sampler = engine._core._runner.sampler
    hit = raises_for(lambda _, row: sampler.params[row].max_tokens == BAD_TOKENS, sampler._shift)  # type: ignore[union-attr]
    patch.setattr(sampler, "_shift", hit)


def break_sampler_update(engine: LocalEngine, patch: pytest.MonkeyPatch) -> None:
    sampler = engine._core._runner.sampler
    hit = raises_for(lambda row, _: sampler.params[row].max_tokens == BAD_TOKENS, sampler.update)  # type: ignore[union-attr]
    patch.setattr(sampler, "update", hit)


def break_detokenizer(engine: LocalEngine, patch: pytest.MonkeyPatch) -> None:
    core = engine._core
    hit = raises_for(lambda sequence, _: is_bad(sequence.request), core._detokenize)
    patch.setattr(core, "_detokenize", hit)


def break_delivery(engine: LocalEngine, patch: pytest.MonkeyPatch) -> None:
    """Of the first delta of one stream; its error still arrives."""
    core, sequence_of = engine._core, engine._core.sequence

    def sequence(request: Request, sink: Any) -> Any:
        def fails(item: Any) -> None:
            if isinstance(item, Delta):
                raise KeyError("injected")
            sink(item)

        return sequence_of(request, fails if is_bad(request) else sink)

    patch.setattr(core, "sequence", sequence)


SEAMS: list[Break] = [
    break_add,
    break_scheduler_admit,
    break_runner_admit,
    break_draft,
    break_sampler,
    break_sampler_update,
    break_detokenizer,
    break_delivery,
]
