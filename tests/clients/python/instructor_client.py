"""instructor, by tool calls and by JSON Schema."""

from collections.abc import Iterable

import instructor
import openai
from pydantic import BaseModel
from uses import BOTH, BUSY, HELLO, PERSON, ROME, SLOW, check, raises, run


class Person(BaseModel):
    name: str
    age: int


class Weather(BaseModel):
    city: str


def client(url: str, mode=instructor.Mode.TOOLS) -> instructor.Instructor:
    return instructor.from_openai(openai.OpenAI(base_url=f"{url}/v1", api_key="unused"), mode=mode)


def ask(url: str, text: str, shape, mode=instructor.Mode.TOOLS, **options):
    return client(url, mode).create(
        messages=[{"role": "user", "content": text}],
        response_model=shape,
        **{"model": "default", **options},
    )


def chat(url: str) -> None:
    check(ask(url, "Hi", None).choices[0].message.content, HELLO)


def stream(url: str) -> None:
    partial = client(url).create_partial(
        model="default", messages=[{"role": "user", "content": PERSON}], response_model=Person
    )
    last = list(partial)[-1]
    check((last.name, last.age), ("Ada", 36))


def tool(url: str) -> None:
    check(ask(url, ROME, Weather).city, "Rome")


def parallel(url: str) -> None:
    found = ask(url, BOTH, Iterable[Weather], instructor.Mode.PARALLEL_TOOLS)
    check([each.city for each in found], ["Rome", "Oslo"])


def strict(url: str) -> None:
    check(ask(url, ROME, Weather, instructor.Mode.TOOLS_STRICT).city, "Rome")


def structured(url: str) -> None:
    for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
        found = ask(url, PERSON, Person, mode)
        check((found.name, found.age), ("Ada", 36))


def abort(url: str) -> None:
    chunks = ask(url, SLOW, None, stream=True)
    next(iter(chunks))
    chunks.close()
    chat(url)


def error(url: str) -> None:
    raises(Exception, lambda: ask(url, PERSON, Person, model="other"))


def retry(url: str) -> None:
    check(ask(url, BUSY.format("instructor"), None).choices[0].message.content, HELLO)


if __name__ == "__main__":
    run(globals())
