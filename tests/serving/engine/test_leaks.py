"""Whatever fails, in whatever order: nothing is held afterwards, and everything can be had again."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from burnish.kernels.loading import load_model
from burnish.kernels.model import LoadedModel
from burnish.serving.engine import EngineError, LocalEngine, Request, SamplingParams, UnknownAdapter
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from .conftest import random_adapter
from .faults import BAD, BAD_LENGTH, BAD_TOKENS, SEAMS, Break

BLOCKS = 24
_models: list[LoadedModel] = []


@pytest.fixture(scope="module", autouse=True)
def model(tiny_model: Path) -> Iterator[None]:
    _models.append(load_model(tiny_model))
    yield
    _models.clear()


def request(at: int, length: int, adapter: str | None, **params: Any) -> Request:
    prompt = tuple(5 + (at * 31 + n * 7) % 250 for n in range(length))
    wanted = {"seed": at, "max_tokens": 6, "ignore_eos": True, **params}
    return Request(f"r{at}", prompt, SamplingParams(**wanted), adapter)


@contextmanager
def broken(owner: Any, name: str) -> Iterator[None]:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("injected")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, fail)
        yield


class Engine(RuleBasedStateMachine):
    """An engine that is asked, given adapters, and failed at every seam."""

    @initialize()
    def begin(self) -> None:
        self.engine = LocalEngine(_models[0], max_running=4, num_blocks=BLOCKS)
        self.resident: set[str] = set()
        self.asked = 0

    names = st.sampled_from(["p@1", "p@2", "p@3"])

    def adapter(self, name: str) -> str | None:
        return name if name in self.resident else None

    @rule(name=names)
    def load(self, name: str) -> None:
        if name not in self.resident:
            self.engine.set_adapter_weights(name, random_adapter(_models[0], int(name[-1])))
            self.resident.add(name)

    @rule(name=names, seam=st.sampled_from(["prepare_adapter", "set_adapter"]))
    def fail_to_load(self, name: str, seam: str) -> None:
        weights = random_adapter(_models[0], int(name[-1]))
        with broken(_models[0], seam), pytest.raises((RuntimeError, ValueError)):
            self.engine.set_adapter_weights(name, weights)

    @rule(name=names, fails=st.booleans())
    def unload(self, name: str, fails: bool) -> None:
        if name not in self.resident:
            with pytest.raises(UnknownAdapter):
                self.engine.unload_adapter(name)
            return
        self.resident.discard(name)
        if fails:
            with broken(_models[0], "set_adapter"), pytest.raises(RuntimeError):
                self.engine.unload_adapter(name)
        else:
            self.engine.unload_adapter(name)

    @rule(name=names, lengths=st.lists(st.integers(1, 120), min_size=1, max_size=6))
    def ask(self, name: str, lengths: list[int]) -> None:
        adapter = self.adapter(name)
        wanted = [request(at, length, adapter) for at, length in enumerate(lengths)]
        answers = self.engine.generate_batch(wanted)
        assert all(len(answer.token_ids) == 6 for answer in answers)

    @rule(name=names, seam=st.sampled_from(SEAMS), stateful=st.booleans(), unloads=st.booleans())
    def ask_and_fail(self, name: str, seam: Break, stateful: bool, unloads: bool) -> None:
        """With a fault in one of three, after which the version may be gone."""
        params = {"frequency_penalty": 0.5} if stateful else {}
        adapter = self.adapter(name)
        bad = request(99, BAD_LENGTH, adapter, **params | {"max_tokens": BAD_TOKENS})
        assert bad.id == BAD
        others = [request(at, 20, adapter, **params) for at in range(2)]
        engine = self.engine
        if unloads and adapter is not None:
            step = engine._core.step

            def unload_first() -> None:
                if adapter in self.resident:
                    self.resident.discard(adapter)
                    engine.unload_adapter(adapter)
                step()

        with pytest.MonkeyPatch.context() as patch:
            if unloads and adapter is not None:
                patch.setattr(engine._core, "step", unload_first)
            seam(engine, patch)
            with suppress(EngineError):  # a seam that these requests do not pass fails nothing
                engine.generate_batch([*others, bad])

    @rule(name=names)
    def ask_and_fail_the_step(self, name: str) -> None:
        with broken(_models[0], "step"), pytest.raises(EngineError, match="injected"):
            self.engine.generate_batch([request(1, 30, self.adapter(name))])
        self.engine.generate_batch([request(1, 3, None)])  # too many in a row would end it

    @rule(name=names, what=st.sampled_from(["adapter", "length", "token", "grammar"]))
    def ask_for_what_cannot_be(self, name: str, what: str) -> None:
        fine = request(1, 30, self.adapter(name))
        bad = {
            "adapter": replace(fine, adapter="p@9"),
            "length": request(1, 10_000, None),
            "token": replace(fine, prompt_ids=(5, 10**9)),
            "grammar": replace(fine, params=SamplingParams(grammar="start: nowhere")),
        }[what]
        with pytest.raises((ValueError, UnknownAdapter)):
            self.engine.generate_batch([fine, bad])

    @rule(name=names)
    def ask_too_late(self, name: str) -> None:
        late = replace(request(1, 30, self.adapter(name)), deadline_s=0.0)
        (answer,) = self.engine.generate_batch([late])
        assert answer.finish_reason == "deadline"

    @invariant()
    def nothing_is_held(self) -> None:
        stats = self.engine.stats()
        assert (stats.free_blocks, stats.running, stats.waiting) == (BLOCKS, 0, 0)
        assert len(self.engine._core.scheduler._rows) == 4
        assert set(stats.adapters) == self.resident
        adapters = self.engine._adapters
        assert set(adapters._users) == set(adapters._slots.values())
        assert not any(adapters._users.values())
        assert not adapters._reserved
        assert not adapters._retired

    def teardown(self) -> None:
        for name in self.resident:
            self.engine.unload_adapter(name)


TestEngine = Engine.TestCase
TestEngine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
