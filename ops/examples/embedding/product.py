"""A product's server: it asks Burnish, and gives its page a token for each answer.

    python -m burnish.ops.examples.embedding.product --burnish http://127.0.0.1:8080 --port 8090

Burnish has to know the product's origin: BURNISH_FEEDBACK_ORIGINS='["http://127.0.0.1:8090"]'. The API key
(BURNISH_API_KEY) stays here; the browser gets tokens, each for one answer and one person. Left out:
log-in; a cookie that anyone gets stands in for it.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai

PAGES = {"/": "plain.html", "/react": "react.html", "/feedback-react.js": "feedback-react.js"}
TOKEN_S = 900  # as long as somebody may look at an answer; the page asks for another after that


class Product:
    """What the server does, apart from HTTP."""

    def __init__(self, burnish: str, key: str | None) -> None:
        self.burnish = burnish.rstrip("/")
        self._client = openai.OpenAI(
            base_url=f"{self.burnish}/v1", api_key=key or "none-on-loopback"
        )
        self._asked: dict[str, str] = {}  # interaction -> who asked

    def ask(self, user: str, question: str) -> dict[str, Any]:
        """An answer, its id, and the token with which this user may judge it."""
        answer = self._client.chat.completions.create(
            model="default", messages=[{"role": "user", "content": question}], user=user
        )
        self._asked[answer.id] = user
        text = answer.choices[0].message.content
        return {"id": answer.id, "text": text, "token": self.token(user, answer.id)}

    def token(self, user: str, interaction: str) -> str:
        """Raises PermissionError unless it was this user who asked."""
        if self._asked.get(interaction) != user:
            raise PermissionError("that is somebody else's answer")
        body = {"interaction_id": interaction, "user": user, "expires_in": TOKEN_S}
        made: Any = self._client.post("/feedback/tokens", body=body, cast_to=object)
        return made["token"]


def handler(product: Product) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = PAGES.get(self.path)
            if name is None:
                self._answer(404, "text/plain", "not found")
                return
            kind = "text/javascript" if name.endswith(".js") else "text/html; charset=utf-8"
            text = Path(__file__).with_name(name).read_text()
            self._answer(200, kind, text.replace("BURNISH_URL", product.burnish))

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                if self.path == "/ask":
                    told: Any = product.ask(self._user, asked["question"])
                else:
                    told = {"token": product.token(self._user, asked["id"])}
            except PermissionError as error:
                self._answer(403, "application/json", json.dumps({"error": str(error)}))
            except openai.APIError as error:
                self._answer(502, "application/json", json.dumps({"error": str(error)}))
            else:
                self._answer(200, "application/json", json.dumps(told))

        @property
        def _user(self) -> str:
            cookie = SimpleCookie(self.headers.get("cookie", ""))
            return cookie["user"].value if "user" in cookie else ""

        def _answer(self, status: int, kind: str, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            if not self._user:
                made = f"user=visitor-{secrets.token_hex(8)}; Path=/; HttpOnly; SameSite=Strict"
                self.send_header("Set-Cookie", made)
            body = text.encode()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def serve(burnish: str, port: int, key: str | None = None) -> ThreadingHTTPServer:
    """A server on loopback, to be run by its `serve_forever`; port 0: any free one."""
    return ThreadingHTTPServer(("127.0.0.1", port), handler(Product(burnish, key)))


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--burnish", default="http://127.0.0.1:8080")
    flags.add_argument("--port", type=int, default=8090)
    given = flags.parse_args()
    server = serve(given.burnish, given.port, os.environ.get("BURNISH_API_KEY"))
    print(f"http://127.0.0.1:{server.server_port}/ and /react")
    server.serve_forever()


if __name__ == "__main__":
    main()
