"""anthropic-python."""

import anthropic
from uses import BOTH, BUSY, HELLO, PERSON, ROME, SLOW, SUNNY, WEATHER, check, raises, run

TOOL = {"name": "get_weather", "input_schema": WEATHER}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def client(url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key="unused")


def asked(text: str, **options) -> dict:
    messages = [{"role": "user", "content": text}]
    return {"model": "default", "max_tokens": 500, "messages": messages, **options}


def ask(url: str, text: str, **options):
    return client(url).messages.create(**asked(text, **options))


def chat(url: str) -> None:
    answer = ask(url, "Hi", system="Be brief.")
    check(answer.content[0].text, HELLO)
    check((answer.stop_reason, answer.usage.output_tokens), ("end_turn", len(HELLO)))
    counted = client(url).messages.count_tokens(
        model="default", system="Be brief.", messages=[{"role": "user", "content": "Hi"}]
    )
    check(counted.input_tokens, answer.usage.input_tokens)


def stream(url: str) -> None:
    with client(url).messages.stream(**asked("Hi")) as events:
        check("".join(events.text_stream), HELLO)
        check(events.get_final_message().usage.output_tokens, len(HELLO))


def tool(url: str) -> None:
    answer = ask(url, ROME, tools=[TOOL])
    check(answer.stop_reason, "tool_use")
    (call,) = answer.content
    check((call.name, call.input), ("get_weather", {"city": "Rome"}))
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    messages = [
        {"role": "user", "content": ROME},
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [result]},
    ]
    told = client(url).messages.create(
        model="default", max_tokens=500, messages=messages, tools=[TOOL]
    )
    check(told.content[0].text, SUNNY)


def parallel(url: str) -> None:
    with client(url).messages.stream(**asked(BOTH, tools=[TOOL])) as events:
        final = events.get_final_message()
    check([call.input["city"] for call in final.content], ["Rome", "Oslo"])


def strict(url: str) -> None:
    (call,) = ask(url, ROME, tools=[{**TOOL, "strict": True}]).content
    check(call.input, {"city": "Rome"})


def structured(url: str) -> None:
    form = {"format": {"type": "json_schema", "schema": SCHEMA}}
    answer = ask(url, PERSON, output_config=form)
    check(answer.content[0].text, '{"name": "Ada", "age": 36}')


def abort(url: str) -> None:
    with client(url).messages.create(**asked(SLOW, stream=True)) as events:
        next(iter(events))
    chat(url)


def error(url: str) -> None:
    caught = raises(anthropic.NotFoundError, lambda: ask(url, "Hi", model="other"))
    check(caught.body["error"]["type"], "not_found_error")
    caught = raises(anthropic.BadRequestError, lambda: ask(url, "Hi", max_tokens=0))
    check("max_tokens" in caught.message, True)


def retry(url: str) -> None:
    check(ask(url, BUSY.format("anthropic")).content[0].text, HELLO)


if __name__ == "__main__":
    run(globals())
