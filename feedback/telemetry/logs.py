"""Log lines as JSON, with the ids of the trace in which they were written.

Names follow OpenTelemetry's log data model as it is written in JSON by most collectors: `timestamp`,
`severity`, `logger`, `message`, `trace_id`, `span_id`, `exception`.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from burnish.feedback.masking import mask_logs
from burnish.feedback.telemetry import tracing
from burnish.feedback.telemetry.settings import TelemetrySettings


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "severity": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (ids := tracing.ids()) is not None:
            line |= {"trace_id": ids[0], "span_id": ids[1]}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def format_logs(settings: TelemetrySettings, logger: logging.Logger | None = None) -> None:
    """Have the logger's handlers (default: the root's) write what the settings say, masked."""
    logger = logger or logging.getLogger()
    if settings.log_format == "json":
        for handler in logger.handlers:
            handler.setFormatter(JsonFormatter())
    mask_logs(logger)
