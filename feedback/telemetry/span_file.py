"""Spans as lines of JSON in a file, for a machine without a collector.

At `MAX_BYTES` it is put aside as `.1`, in place of the one before. Left out: files shared by processes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

MAX_BYTES = 32 * 2**20


class SpanFile(SpanExporter):
    """One file per process: its number is part of the name."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path = path.with_name(f"{path.stem}-{os.getpid()}{path.suffix}")
        self._max_bytes = max_bytes

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        lines = "".join(f"{span.to_json(indent=None)}\n" for span in spans)
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(lines)
                full = file.tell() > self._max_bytes
            if full:
                self._path.replace(self._path.with_suffix(".1"))
        except OSError:  # a full disk costs traces, not answers
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS
