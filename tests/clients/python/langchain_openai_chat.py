"""LangChain's ChatOpenAI."""

import openai
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool as as_tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from uses import BOTH, BUSY, HELLO, PERSON, ROME, SLOW, SUNNY, check, raises, run


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@as_tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    return "sunny"


def model(url: str, name: str = "default") -> ChatOpenAI:
    return ChatOpenAI(model=name, base_url=f"{url}/v1", api_key="unused")


def chat(url: str) -> None:
    check(model(url).invoke("Hi").content, HELLO)


def stream(url: str) -> None:
    check("".join(chunk.content for chunk in model(url).stream("Hi")), HELLO)


def tool(url: str, **options) -> None:
    bound = model(url).bind_tools([get_weather], **options)
    called = bound.invoke(ROME)
    (call,) = called.tool_calls
    check((call["name"], call["args"]), ("get_weather", {"city": "Rome"}))
    result = ToolMessage("sunny", tool_call_id=call["id"])
    check(bound.invoke([HumanMessage(ROME), called, result]).content, SUNNY)


def parallel(url: str) -> None:
    called = model(url).bind_tools([get_weather]).invoke(BOTH)
    check([call["args"]["city"] for call in called.tool_calls], ["Rome", "Oslo"])


def strict(url: str) -> None:
    tool(url, strict=True)


def structured(url: str) -> None:
    wanted = Person(name="Ada", age=36)
    check(model(url).with_structured_output(Person).invoke(PERSON), wanted)
    by_call = model(url).with_structured_output(Person, method="function_calling")
    check(by_call.invoke(PERSON), wanted)


def abort(url: str) -> None:
    chunks = model(url).stream(SLOW)
    next(chunks)
    chunks.close()
    chat(url)


def error(url: str) -> None:
    raises(openai.NotFoundError, lambda: model(url, "other").invoke("Hi"))


def retry(url: str) -> None:
    check(model(url).invoke(BUSY.format("langchain")).content, HELLO)


if __name__ == "__main__":
    run(globals())
