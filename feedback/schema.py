"""One JSON Schema per event type, for whoever reads the topics without this code.

The files in feedback/schemas are written from the models by `python -m burnish.feedback.schema`;
a test keeps both the same. Reading validates by the models: the same rules, much faster than a
schema walked in Python over thousands of token ids.
"""

import json
from pathlib import Path
from typing import Any

from burnish.feedback.events import EVENTS

FOLDER = Path(__file__).parent / "schemas"


def schema_of(event_type: str) -> dict[str, Any]:
    """The schema of an event type's body, as its model has it."""
    schema = EVENTS[event_type].model_json_schema(mode="serialization")
    # What a writer may leave out because of its default is not required of old events either.
    required = [n for n, f in EVENTS[event_type].model_fields.items() if f.is_required()]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://burnish.invalid/schemas/{event_type}.json",
        **schema,
        "required": required,
    }


def published_schema(event_type: str) -> dict[str, Any]:
    """The schema as it is committed."""
    return json.loads((FOLDER / f"{event_type}.json").read_text())


def write_schemas(folder: Path = FOLDER) -> None:
    for event_type in EVENTS:
        text = json.dumps(schema_of(event_type), indent=2, sort_keys=True) + "\n"
        (folder / f"{event_type}.json").write_text(text)


if __name__ == "__main__":
    write_schemas()
