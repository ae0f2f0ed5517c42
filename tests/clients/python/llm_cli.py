"""`llm`, the command line and its library, with our models in its extra-openai-models.yaml."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["LLM_USER_PATH"] = tempfile.mkdtemp()

import llm
from uses import BOTH, BUSY, HELLO, PERSON, ROME, SLOW, SUNNY, check, raises, run

MODELS = """
- model_id: burnish
  model_name: {name}
  api_base: {url}/v1
  supports_schema: true
  supports_tools: true
"""
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


def model(url: str, name: str = "default"):
    file = Path(os.environ["LLM_USER_PATH"]) / "extra-openai-models.yaml"
    file.write_text(MODELS.format(url=url, name=name))
    found = llm.get_model("burnish")
    found.key = "unused"
    return found


def get_weather(city: str) -> str:
    """Weather of a city."""
    cities.append(city)
    return "sunny"


cities: list[str] = []


def chat(url: str) -> None:
    model(url)
    command = [sys.executable, "-m", "llm", "-m", "burnish", "--no-stream", "--key", "x", "Hi"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    check(done.stdout.strip(), HELLO)


def stream(url: str) -> None:
    check("".join(model(url).prompt("Hi", stream=True)), HELLO)


def tool(url: str) -> None:
    cities.clear()
    told = model(url).chain(ROME, tools=[get_weather])
    check((told.text().endswith(SUNNY), cities), (True, ["Rome"]))


def parallel(url: str) -> None:
    cities.clear()
    told = model(url).chain(BOTH, tools=[get_weather])
    check((told.text().endswith(SUNNY), sorted(cities)), (True, ["Oslo", "Rome"]))


def strict(url: str) -> None:
    tool(url)  # it has no strict tools


def structured(url: str) -> None:
    check(model(url).prompt(PERSON, schema=SCHEMA).text(), '{"name": "Ada", "age": 36}')


def abort(url: str) -> None:
    pieces = iter(model(url).prompt(SLOW, stream=True))
    next(pieces)
    pieces.close()
    check(model(url).prompt("Hi").text(), HELLO)


def error(url: str) -> None:
    raises(Exception, lambda: model(url, "other").prompt("Hi").text())


def retry(url: str) -> None:
    check(model(url).prompt(BUSY.format("llm")).text(), HELLO)


if __name__ == "__main__":
    run(globals())
