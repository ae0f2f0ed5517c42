"""pydantic-ai's agents."""

from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, ModelHTTPError, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from uses import BOTH, BUSY, HELLO, PERSON, ROME, SLOW, SUNNY, check, raises, run


class Person(BaseModel):
    name: str
    age: int


def agent(url: str, name: str = "default", **options) -> Agent:
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="unused")
    return Agent(OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client)), **options)


def with_weather(url: str, cities: list[str], **options) -> Agent:
    made = agent(url)

    @made.tool_plain(**options)
    def get_weather(city: str) -> str:
        cities.append(city)
        return "sunny"

    return made


def chat(url: str) -> None:
    check(agent(url).run_sync("Hi").output, HELLO)


async def stream(url: str) -> None:
    async with agent(url).run_stream("Hi") as answer:
        pieces = [piece async for piece in answer.stream_text(delta=True)]
    check("".join(pieces), HELLO)


def tool(url: str) -> None:
    cities: list[str] = []
    check(with_weather(url, cities).run_sync(ROME).output, SUNNY)
    check(cities, ["Rome"])


def parallel(url: str) -> None:
    cities: list[str] = []
    check(with_weather(url, cities).run_sync(BOTH).output, SUNNY)
    check(sorted(cities), ["Oslo", "Rome"])


def strict(url: str) -> None:
    cities: list[str] = []
    check(with_weather(url, cities, strict=True).run_sync(ROME).output, SUNNY)
    check(cities, ["Rome"])


def structured(url: str) -> None:
    wanted = Person(name="Ada", age=36)
    check(agent(url, output_type=Person).run_sync(PERSON).output, wanted)
    check(agent(url, output_type=NativeOutput(Person)).run_sync(PERSON).output, wanted)


async def abort(url: str) -> None:
    async with agent(url).run_stream(SLOW) as answer:
        async for _ in answer.stream_text(delta=True, debounce_by=None):
            break
    check((await agent(url).run("Hi")).output, HELLO)


def error(url: str) -> None:
    caught = raises(ModelHTTPError, lambda: agent(url, "other").run_sync("Hi"))
    check(caught.status_code, 404)


def retry(url: str) -> None:
    check(agent(url).run_sync(BUSY.format("pydantic-ai")).output, HELLO)


if __name__ == "__main__":
    run(globals())
