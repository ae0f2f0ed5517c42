"""LiteLLM, as a library."""

import json

import litellm
from pydantic import BaseModel
from uses import BOTH, BUSY, HELLO, PERSON, ROME, SLOW, SUNNY, WEATHER, check, raises, run

TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}


class Person(BaseModel):
    name: str
    age: int


def ask(url: str, messages, **options):
    said = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    options = {"model": "openai/default", "api_key": "unused", **options}
    return litellm.completion(messages=said, api_base=f"{url}/v1", **options)


def chat(url: str) -> None:
    check(ask(url, "Hi").choices[0].message.content, HELLO)


def stream(url: str) -> None:
    chunks = ask(url, "Hi", stream=True)
    check("".join(chunk.choices[0].delta.content or "" for chunk in chunks), HELLO)


def tool(url: str, **function) -> None:
    described = {"type": "function", "function": {**TOOL["function"], **function}}
    answer = ask(url, ROME, tools=[described]).choices[0].message
    (call,) = answer.tool_calls
    check(json.loads(call.function.arguments), {"city": "Rome"})
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    said = [{"role": "user", "content": ROME}, answer.model_dump(), result]
    check(ask(url, said, tools=[described]).choices[0].message.content, SUNNY)


def parallel(url: str) -> None:
    chunks = list(ask(url, BOTH, tools=[TOOL], stream=True))
    answer = litellm.stream_chunk_builder(chunks).choices[0].message
    cities = [json.loads(call.function.arguments)["city"] for call in answer.tool_calls]
    check(cities, ["Rome", "Oslo"])


def strict(url: str) -> None:
    tool(url, strict=True)


def structured(url: str) -> None:
    answer = ask(url, PERSON, response_format=Person).choices[0].message.content
    check(Person.model_validate_json(answer), Person(name="Ada", age=36))


def abort(url: str) -> None:
    chunks = ask(url, SLOW, stream=True)
    next(iter(chunks))
    chunks.completion_stream.close()
    chat(url)


def error(url: str) -> None:
    raises(litellm.NotFoundError, lambda: ask(url, "Hi", model="openai/other"))


def retry(url: str) -> None:
    answer = ask(url, BUSY.format("litellm"), num_retries=2)
    check(answer.choices[0].message.content, HELLO)


if __name__ == "__main__":
    run(globals())
