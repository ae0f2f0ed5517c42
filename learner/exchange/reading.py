"""Reads exports of other programs into turns: Open WebUI, Langfuse, and plain JSONL.

The format of each row is told by its fields, so one command reads all of them:

    Open WebUI   "Export feedbacks" (admin, Evaluations): a JSON list, each with the rating in `data`, the
                 judged message's id in `meta`, and the whole chat in `snapshot`; or "Export chats", where
                 ratings stand in a message's `annotation`
    Langfuse     observations and scores as the blob-storage export or the API give them (snake or camel
                 case, JSON list or JSONL; give both files at once): a GENERATION with `input` and
                 `output`, and scores that name its trace or the observation itself
    plain        a line a turn: `messages` ending in the assistant's, or `prompt` with `completion`;
                 beside them `thumbs`, `score`, `label` (KTO), `correction`, `comment`; or `chosen` with
                 `rejected` (DPO)

Written from the projects' public documentation of their exports, late 2026. Left out: images, and
Langfuse's spans that are no generation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.learner.exchange import langfuse, open_webui, plain
from burnish.learner.exchange.turns import BrokenRow, RowError, Turn


def read(files: Sequence[Path]) -> tuple[list[Turn], list[BrokenRow]]:
    """The turns of all files, and the rows that were passed over. Raises OSError."""
    broken: list[BrokenRow] = []
    turns: list[Turn] = []
    observations = langfuse.Export()
    for file in files:
        for number, row in _rows(file, broken):
            try:
                if not isinstance(row, Mapping):
                    raise RowError("no JSON object")
                if langfuse.is_ours(row):
                    observations.add(row, file.name, number)
                elif open_webui.is_ours(row):
                    turns.extend(open_webui.turns(row))
                else:
                    turns.extend(plain.turns(row))
            except (RowError, TypeError, AttributeError, KeyError) as error:
                why = str(error) if isinstance(error, RowError) else f"malformed: {error!r:.120}"
                broken.append(BrokenRow(file.name, number, why))
    joined, unjoined = observations.turns()
    return turns + joined, broken + unjoined


def _rows(file: Path, broken: list[BrokenRow]) -> Iterator[tuple[int, Any]]:
    """The rows of a JSON list or of JSONL, numbered from 1."""
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if whole is not None:
        yield from enumerate(whole if isinstance(whole, list) else [whole], 1)
        return
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            broken.append(BrokenRow(file.name, number, f"no JSON: {error}"))
