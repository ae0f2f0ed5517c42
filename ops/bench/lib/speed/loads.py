"""What the engine benchmark asks of each shape, and the names that its processes share."""

from __future__ import annotations

from dataclasses import dataclass, replace

CONCURRENT = (1, 8, 32)
PROMPT, NEW = 128, 64  # tokens of an answer's prompt, and of the answer
SHORT, LONG = 512, 4096  # tokens of the prompts whose prefill is timed
PEERS = "peers"  # beside the instruction sets: everyone who is not ours
HELD_PEERS = "peers, avx2"  # the same on a wider machine, held to AVX2
CANDIDATE = "candidate"  # a contestant that serves only the learner's load
LLAMA_CPP = {"bfloat16": "bf16", "int8": "q8_0", "int4": "q4_0"}  # its format beside each of ours
PARTS = ("machine", "decode", "adapters", "fresh", "prefill", "steps", "training")


@dataclass(frozen=True)
class Load:
    """Prompts of `prompt` tokens and `new` ones after, at each concurrency; and which other parts are
    measured. Large models get short ones, which change their rate by little."""

    prompt: int = 32
    new: int = 32
    contests: bool = True  # False: only steps and training; it is no model of random weights
    transformers: bool = False  # beside ours and llama.cpp
    adapters: bool = False  # one, and two mixed
    fresh: bool = False
    steps: bool = False  # the chosen way against PyTorch's
    answers: int = 0  # of a training step; 0: not measured

    @property
    def slots(self) -> int:
        """Of the cache: the largest batch, or a long prompt, with room for blocks not full."""
        return max(max(CONCURRENT) * (self.prompt + self.new + 16), LONG + 16) + 512

    @property
    def context(self) -> float:
        """Tokens that a decode step sees, on average."""
        return self.prompt + self.new / 2


@dataclass(frozen=True)
class FreshAnswers:
    """The learner's load: several samples of each prompt in one batch."""

    prompts: int = 24
    samples: int = 4
    prompt: int = 128
    new: int = 60

    @property
    def rows(self) -> int:
        return self.prompts * self.samples

    @property
    def slots(self) -> int:
        return self.rows * (self.prompt + self.new + 16)


FRESH = FreshAnswers()
MIXTURE = Load(PROMPT, NEW, transformers=True, adapters=True)
LOADS = {
    "ember": Load(contests=False, steps=True, answers=32),
    "S": replace(MIXTURE, fresh=True, steps=True),
    "M": MIXTURE,
    "D": Load(steps=True, answers=4),
    "L": Load(new=16),
}
