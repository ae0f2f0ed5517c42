"""Incremental detokenization: whole UTF-8 characters, stop strings held back until decided."""

from __future__ import annotations

import codecs
import json
from typing import Any, Protocol


class TokenDecoder(Protocol):
    """Decodes one sequence: what each further token adds to the text."""

    def push(self, token: int) -> str: ...

    def push_all(self, tokens: list[int]) -> str: ...

    def flush(self) -> str: ...


class Vocabulary:
    """A tokenizer's ids as text. Ids in `hidden` (end of turn, padding) have none."""

    def __init__(self, tokenizer: Any, hidden: frozenset[int]) -> None:
        self.tokenizer = tokenizer
        self.hidden = hidden
        self._bytes = _byte_table(tokenizer)

    def token_decoder(self) -> TokenDecoder:
        if self._bytes is not None:
            return _ByteDecoder(self._bytes, self.hidden)
        return _WindowDecoder(self.tokenizer, self.hidden)


class _ByteDecoder:
    """For byte-level vocabularies: tokens are bytes, and an incremental decoder joins them."""

    def __init__(self, table: list[bytes], hidden: frozenset[int]) -> None:
        self.table = table
        self.hidden = hidden
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        if token in self.hidden or token >= len(self.table):
            return ""
        return self.decoder.decode(self.table[token])

    def push_all(self, tokens: list[int]) -> str:
        table, hidden = self.table, self.hidden
        known = (t for t in tokens if t not in hidden and t < len(table))
        return self.decoder.decode(b"".join([table[t] for t in known]))

    def flush(self) -> str:
        return self.decoder.decode(b"", final=True)


class _WindowDecoder:
    """For any other vocabulary: decode a short window and take what the last token added."""

    def __init__(self, tokenizer: Any, hidden: frozenset[int]) -> None:
        self.tokenizer = tokenizer
        self.hidden = hidden
        self.before: list[int] = []  # context that keeps leading spaces right
        self.pending: list[int] = []

    def _text(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=False)

    def push(self, token: int) -> str:
        if token in self.hidden:
            return ""
        self.pending.append(token)
        return self._take(final=False)

    def push_all(self, tokens: list[int]) -> str:
        return "".join(map(self.push, tokens))

    def _take(self, final: bool) -> str:
        text = self._text(self.before + self.pending)[len(self._text(self.before)) :]
        if text.endswith("\ufffd") and not final:
            return ""  # half a character
        self.before, self.pending = self.pending, []
        return text

    def flush(self) -> str:
        return self._take(final=True) if self.pending else ""


def _byte_table(tokenizer: Any) -> list[bytes] | None:
    """Bytes of every id of a byte-level vocabulary, else None."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is None:
        return None
    decoder = json.loads(core.to_str()).get("decoder") or {}
    if decoder.get("type") != "ByteLevel":
        return None
    # The byte-level alphabet: printable bytes stand for themselves, the others for 256, 257, ...
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(b): b for b in printable}
    others = [b for b in range(256) if b not in set(printable)]
    letters.update({chr(256 + i): b for i, b in enumerate(others)})
    added = {i: token.content for i, token in core.get_added_tokens_decoder().items()}
    table = []
    for token in range(core.get_vocab_size(with_added_tokens=True)):
        piece = added.get(token)
        if piece is None:
            spelled = core.id_to_token(token) or ""
            table.append(bytes(letters[c] for c in spelled if c in letters))
        else:
            table.append(piece.encode())
    return table


class StopStrings:
    """Emits text up to the first stop string; holds back an end that may become one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self.stops = tuple(s for s in stops if s)
        self.held = ""
        self.met = ""  # the stop string at which the text ended

    def push(self, text: str) -> tuple[str, bool]:
        """Text that is final, and whether a stop string was met (the text ends before it)."""
        if not self.stops or not text:
            return text, False
        text = self.held + text
        found = [(text.find(stop), stop) for stop in self.stops if stop in text]
        if found:
            at, self.met = min(found)
            self.held = ""
            return text[:at], True
        keep = max(map(lambda stop: _overlap(text, stop), self.stops))
        self.held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def flush(self) -> str:
        held, self.held = self.held, ""
        return held


class IncrementalDetokenizer:
    """The text of one answer, token by token."""

    def __init__(self, vocabulary: Vocabulary, stops: tuple[str, ...]) -> None:
        self._decoder = vocabulary.token_decoder()
        self._stops = StopStrings(stops)

    @property
    def plain(self) -> bool:
        """Whether there are no stop strings, so that `push_all` may be used."""
        return not self._stops.stops

    @property
    def stopped_by(self) -> str:
        """The stop string that was met."""
        return self._stops.met

    def push_all(self, tokens: list[int]) -> str:
        """The text that these tokens make final."""
        return self._decoder.push_all(tokens)

    def push(self, token: int, shown: bool = True) -> tuple[str, bool]:
        """The text that this token makes final, and whether a stop string was met."""
        return self._stops.push(self._decoder.push(token) if shown else "")

    def flush(self) -> str:
        """The rest of the text, up to a stop string if one is in it."""
        rest, stopped = self._stops.push(self._decoder.flush())
        return rest if stopped else rest + self._stops.flush()


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next(
        (n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0
    )
