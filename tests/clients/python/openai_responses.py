"""openai-python, responses."""

import json

import openai
from openai_chat import City, Person, client
from uses import BOTH, BUSY, HELLO, PERSON, ROME, SLOW, SUNNY, WEATHER, check, raises, run

TOOL = {"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": False}


def ask(url: str, said, **options):
    return client(url).responses.create(model="default", input=said, **options)


def chat(url: str) -> None:
    answer = ask(url, "Hi")
    check(answer.output_text, HELLO)
    check(answer.usage.output_tokens, len(HELLO))
    check(client(url).responses.retrieve(answer.id).output_text, HELLO)


def stream(url: str) -> None:
    with client(url).responses.stream(model="default", input="Hi") as events:
        kinds = [event.type for event in events]
        check(events.get_final_response().output_text, HELLO)
    check((kinds[0], kinds[-1]), ("response.created", "response.completed"))


def tool(url: str) -> None:
    answer = ask(url, ROME, tools=[TOOL])
    (call,) = answer.output
    check(json.loads(call.arguments), {"city": "Rome"})
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    told = ask(url, [result], tools=[TOOL], previous_response_id=answer.id)
    check(told.output_text, SUNNY)


def parallel(url: str) -> None:
    answer = ask(url, BOTH, tools=[TOOL])
    check([json.loads(call.arguments)["city"] for call in answer.output], ["Rome", "Oslo"])


def strict(url: str) -> None:
    answer = client(url).responses.parse(
        model="default", input=ROME, tools=[openai.pydantic_function_tool(City)["function"] | TYPE]
    )
    check(answer.output[0].parsed_arguments, City(city="Rome").model_dump())


TYPE = {"type": "function"}


def structured(url: str) -> None:
    answer = client(url).responses.parse(model="default", input=PERSON, text_format=Person)
    check(answer.output_parsed, Person(name="Ada", age=36))


def abort(url: str) -> None:
    with ask(url, SLOW, stream=True) as events:
        next(iter(events))
    chat(url)


def error(url: str) -> None:
    caught = raises(
        openai.BadRequestError, lambda: ask(url, "Hi", previous_response_id="resp_none")
    )
    check(caught.param, "previous_response_id")


def retry(url: str) -> None:
    check(ask(url, BUSY.format("openai responses")).output_text, HELLO)


if __name__ == "__main__":
    run(globals())
