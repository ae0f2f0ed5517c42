"""`python -m burnish.ops.supervisor.mlflow_page`: MLflow's page and API, behind a password.

Whoever may write to MLflow may move the champion, and `mlflow server` takes everybody who reaches
its port. Here its application runs behind HTTP Basic authentication (RFC 7617) for one user,
`burnish`, whole: page, REST, artifacts, GraphQL. A request that another page's script sends with the
user's credentials is refused by its Origin. MLflow's own basic-auth application would need two more
packages and a database; this one starts in half of `mlflow server`'s time, in one process.

The database is BURNISH_MLFLOW_URI, read from the environment since it may hold a password.
Left out: TLS, several users.
"""

from __future__ import annotations

import argparse
import base64
import gc
import hmac
import os
from pathlib import Path
from typing import Any

import uvicorn
from burnish.feedback.masking import mask_logs
from burnish.ops.passwords import MLFLOW_USER, mlflow_password
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OPEN_PATH = "/health"


class Guard:
    """Lets through who knows the password, and from no page but MLflow's own."""

    def __init__(self, app: ASGIApp, password: str):
        self._app = app
        self._credentials = base64.b64encode(f"{MLFLOW_USER}:{password}".encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope.get("path") == OPEN_PATH:
            await self._app(scope, receive, send)
        elif scope["type"] != "http":  # MLflow has no websockets
            await send({"type": "websocket.close", "code": 1008})
        elif (refusal := self._refusal(Headers(scope=scope))) is not None:
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, headers: Headers) -> PlainTextResponse | None:
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        known = hmac.compare_digest(credentials.strip().encode("latin-1"), self._credentials)
        if scheme.lower() != "basic" or not known:
            return PlainTextResponse(
                f"The user is {MLFLOW_USER}; `burnish up` says where the password lies.\n",
                401,
                {"WWW-Authenticate": 'Basic realm="MLflow of Burnish", charset="UTF-8"'},
            )
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            return PlainTextResponse("Requests from other pages are refused.\n", 403)
        return None


def mlflow_application(uri: str, artifacts: str, artifact_root: str) -> Any:
    """MLflow's own application, as `mlflow server` makes it, on the database at `uri`."""
    # What `mlflow server` hands to its workers; read when the application is imported.
    os.environ |= {
        "_MLFLOW_SERVER_FILE_STORE": uri,
        "_MLFLOW_SERVER_REGISTRY_STORE": uri,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": artifact_root,
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": artifacts,
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # nothing here uses its eight processes
    }
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(uri, uri, artifact_root)
    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--artifacts", required=True, help="folder or URL the server stores in")
    parser.add_argument("--artifact-root", help="folder that clients store in (default: by us)")
    given = parser.parse_args()
    gc.disable()  # a sixth of the time that imports take
    app = mlflow_application(
        os.environ["BURNISH_MLFLOW_URI"],
        given.artifacts,
        given.artifact_root or "mlflow-artifacts:/",
    )
    gc.freeze()
    gc.enable()
    mask_logs()
    password = mlflow_password(Path(os.environ["BURNISH_DATA_DIR"]))
    uvicorn.run(
        Guard(app, password),
        host=given.host,
        port=given.port,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
