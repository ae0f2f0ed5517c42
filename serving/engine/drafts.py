"""Drafts of speculative decoding, whoever proposes them: what one sequence's module has proposed, and
whether drafts pay.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

MAX_MTP_DRAFT = 4  # tokens at a time


@dataclass
class MTPDraft:
    """What the module proposes for one sequence, and how many tokens it may propose next."""

    tokens: list[int] = field(default_factory=list)
    length: int = 1
    tries: int = 0

    def take(self) -> list[int]:
        """The draft, which is then used up."""
        taken, self.tokens = self.tokens, []
        return taken

    def update(self, proposed: int, accepted: int) -> None:
        """Lengthen drafts that are accepted whole, shorten the others."""
        self.tries += 1
        self.length = min(proposed + 1, MAX_MTP_DRAFT) if accepted == proposed else max(accepted, 1)


class DraftMonitor:
    """Whether steps with drafts have lately drawn more tokens a second than steps without, of as many
    sequences (to a power of two)."""

    RETRY_EVERY = 64  # steps after which the slower kind is tried again

    def __init__(self) -> None:
        self._speed: dict[tuple[int, bool], float] = {}  # size, with drafts? -> tokens a second
        self._steps: defaultdict[int, int] = defaultdict(int)  # by size

    def pays(self, sequences: int) -> bool:
        """Whether drafts are faster, or not yet known to be slower."""
        size = sequences.bit_length()
        drafted, plain = (self._speed.get((size, kind)) for kind in (True, False))
        return drafted is None or plain is None or drafted >= plain

    def worthwhile(self, sequences: int) -> bool:
        """Whether to draft in the next step: the faster kind, and now and then the other."""
        size = sequences.bit_length()
        if (size, True) in self._speed and (size, False) not in self._speed:
            return False  # once, for the comparison
        retry = self._steps[size] > 0 and self._steps[size] % self.RETRY_EVERY == 0
        return self.pays(sequences) != retry

    def record(self, drafted: bool, sequences: int, tokens: int, seconds: float) -> None:
        """A step of decoding alone drew `tokens` for so many sequences in `seconds`."""
        kind = (sequences.bit_length(), drafted)
        self._steps[kind[0]] += 1
        speed = tokens / max(seconds, 1e-9)
        self._speed[kind] = 0.8 * self._speed.get(kind, speed) + 0.2 * speed
