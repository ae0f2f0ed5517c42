"""`burnish chat`: a streamed conversation in the terminal through the openai client, with feedback.

A line that starts with / is a command. Left out: history across runs, and editing of past turns.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from typing import Any

import openai
from burnish.ops.commands.client import ServiceClient, ServiceError
from burnish.ops.settings import UpSettings
from rich.console import Console

HELP = """\
/up            a good answer            /down [why]    a bad one
/fix TEXT      what it should have said /comment TEXT  anything else about it
/new           start a new conversation /quit          leave (or Ctrl-D)"""


class Conversation:
    """The messages so far, and the latest interaction, which feedback refers to; `user` says whose it is."""

    def __init__(self, settings: UpSettings, model: str, system: str | None, user: str) -> None:
        self._service = ServiceClient(settings)
        self._client = openai.OpenAI(
            base_url=f"{self._service.url}/v1",
            api_key=settings.api_key or "none-needed-on-loopback",
            max_retries=0,
        )
        self.model = model
        self._system = system
        self._user = user
        self.interaction_id: str | None = None
        self.version: str | None = None
        self.messages: list[Any] = []
        self.restart()

    @property
    def url(self) -> str:
        return self._service.url

    def restart(self) -> None:
        self.messages = [{"role": "system", "content": self._system}] if self._system else []
        self.interaction_id = None

    def ask(self, text: str) -> Iterator[str]:
        """Stream the answer's text, then set `interaction_id` and `version` to the answer's."""
        messages = [*self.messages, {"role": "user", "content": text}]
        answer = ""
        with self._client.chat.completions.create(
            model=self.model, messages=messages, user=self._user, stream=True
        ) as stream:
            for chunk in stream:
                self.interaction_id = chunk.id
                self.version = chunk.system_fingerprint or self.version
                piece = chunk.choices[0].delta.content if chunk.choices else None
                if piece:
                    answer += piece
                    yield piece
        self.messages = [*messages, {"role": "assistant", "content": answer}]

    def judge(self, name: str, value: Any, rationale: str | None = None) -> None:
        if self.interaction_id is None:
            raise ServiceError("there is no answer to judge yet")
        body = {
            "interaction_id": self.interaction_id,
            "user": self._user,
            "name": name,
            "value": value,
        }
        self._service.post("/v1/feedback", body | ({"rationale": rationale} if rationale else {}))


def login_name() -> str:
    """Who is at this terminal, as far as the machine knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have no entry for its user
        return "terminal"


def run(conversation: Conversation, *, console: Console) -> int:
    interactive = sys.stdin.isatty()
    if interactive:
        console.print(f"[dim]{conversation.url}  ({conversation.model})  /help for commands[/dim]")
    while True:
        try:
            line = input("> " if interactive else "").strip()
        except (EOFError, KeyboardInterrupt):
            return 0
        try:
            if line in ("/quit", "/exit"):
                return 0
            if line.startswith("/"):
                console.print(
                    command(conversation, line), style="dim", markup=False, highlight=False
                )
            elif line:
                for piece in conversation.ask(line):
                    console.print(piece, end="", markup=False, highlight=False, soft_wrap=True)
                console.print(f"  [dim]{conversation.version}[/dim]", highlight=False)
        except KeyboardInterrupt:  # closing the stream frees its slot
            console.print("  [dim](stopped)[/dim]")
        except openai.APIConnectionError:
            raise ServiceError(
                f"no service answers at {conversation.url}; start one with `burnish up`"
            ) from None
        except (openai.APIStatusError, ServiceError) as error:
            console.print(str(error), style="red", markup=False, highlight=False)


def command(conversation: Conversation, line: str) -> str:
    """Carry out a slash command; returns the line to print."""
    name, _, argument = line.partition(" ")
    argument = argument.strip()
    match name:
        case "/up" | "/down":
            conversation.judge("thumbs", name[1:], argument or None)
            return f"thumbs {name[1:]} noted"
        case "/fix" if argument:
            conversation.judge("correction", argument)
            return "correction noted"
        case "/comment" if argument:
            conversation.judge("comment", argument)
            return "comment noted"
        case "/new":
            conversation.restart()
            return "a new conversation"
        case _:
            return HELP
