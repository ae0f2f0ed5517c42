"""Cross-origin resource sharing (Fetch standard): which sites' pages may read what.

`BURNISH_ALLOWED_ORIGINS` may use the whole API. `BURNISH_FEEDBACK_ORIGINS` may load the element
`burnish-feedback` and, with a token, send feedback: nothing else (admission.py). No origin is allowed
by a wildcard, and no cookies are ever taken.
"""

from __future__ import annotations

from burnish.serving.settings import ServingSettings
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

ELEMENT = "/static/burnish-feedback.js"
FEEDBACK = "/v1/feedback"


def is_for_feedback(path: str) -> bool:
    return path in (ELEMENT, FEEDBACK) or path.startswith(FEEDBACK + "/")


class Cors:
    """Answers preflights, and lets the pages that are named read answers."""

    def __init__(self, app: ASGIApp, settings: ServingSettings):
        self._whole = _cors(app, settings.allowed_origins)
        self._feedback = _cors(app, (*settings.allowed_origins, *settings.feedback_origins))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        feedback = scope["type"] == "http" and is_for_feedback(scope["path"])
        await (self._feedback if feedback else self._whole)(scope, receive, send)


def _cors(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    if not origins:
        return app
    # Clients send headers of their own.
    return CORSMiddleware(app, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])
