"""openai-python, chat completions."""

import json

import openai
from pydantic import BaseModel
from uses import BOTH, BUSY, HELLO, PERSON, ROME, SLOW, SUNNY, WEATHER, check, raises, run

TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}


class Person(BaseModel):
    name: str
    age: int


def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="unused")


def says(text: str) -> list:
    return [{"role": "user", "content": text}]


def ask(url: str, text: str, **options):
    return client(url).chat.completions.create(model="default", messages=says(text), **options)


def chat(url: str) -> None:
    answer = ask(url, "Hi", user="ada")
    check(answer.choices[0].message.content, HELLO)
    check(answer.usage.completion_tokens, len(HELLO))


def stream(url: str) -> None:
    chunks = list(ask(url, "Hi", stream=True, stream_options={"include_usage": True}))
    said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    check("".join(said), HELLO)
    check(chunks[-1].usage.completion_tokens, len(HELLO))


def tool(url: str) -> None:
    answer = ask(url, ROME, tools=[TOOL]).choices[0]
    check(answer.finish_reason, "tool_calls")
    (call,) = answer.message.tool_calls
    check(json.loads(call.function.arguments), {"city": "Rome"})
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    messages = [*says(ROME), answer.message, result]
    told = client(url).chat.completions.create(model="default", messages=messages, tools=[TOOL])
    check(told.choices[0].message.content, SUNNY)


def parallel(url: str) -> None:
    with client(url).chat.completions.stream(
        model="default", messages=says(BOTH), tools=[openai.pydantic_function_tool(City)]
    ) as events:
        final = events.get_final_completion()
    cities = [call.function.parsed_arguments.city for call in final.choices[0].message.tool_calls]
    check(cities, ["Rome", "Oslo"])


class City(BaseModel):
    city: str


def strict(url: str) -> None:
    answer = client(url).chat.completions.parse(
        model="default", messages=says(ROME), tools=[openai.pydantic_function_tool(City)]
    )
    (call,) = answer.choices[0].message.tool_calls
    check(call.function.parsed_arguments, City(city="Rome"))


def structured(url: str) -> None:
    answer = client(url).chat.completions.parse(
        model="default", messages=says(PERSON), response_format=Person
    )
    check(answer.choices[0].message.parsed, Person(name="Ada", age=36))


def abort(url: str) -> None:
    with ask(url, SLOW, stream=True) as chunks:
        next(iter(chunks))
    chat(url)


def error(url: str) -> None:
    caught = raises(
        openai.NotFoundError,
        lambda: client(url).chat.completions.create(model="other", messages=says("Hi")),
    )
    check((caught.code, caught.param), ("model_not_found", "model"))


def retry(url: str) -> None:
    check(ask(url, BUSY.format("openai chat")).choices[0].message.content, HELLO)


if __name__ == "__main__":
    run(globals())
