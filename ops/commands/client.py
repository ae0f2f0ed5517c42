"""HTTP client of the commands: finds the running service, calls its API, reports its errors.

`burnish chat` uses the openai package instead (chat.py), as a product would.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import httpx2 as httpx
from burnish.ops.settings import UpSettings
from burnish.ops.supervisor import run_state


class ServiceError(RuntimeError):
    """The service refused the request; the message is the reason it gave."""


class ServiceDown(ServiceError):
    """No service answers at the address."""


def find_url(settings: UpSettings) -> str:
    """BURNISH_URL, else the service running on this data folder, else the host and port."""
    if settings.url:
        return settings.url.rstrip("/").removesuffix("/v1")
    if state := run_state.running(settings.data_dir):
        return state.url
    return f"http://{settings.host}:{settings.port}"


class ServiceClient:
    """A client of one service's JSON API. Its calls raise ServiceDown and ServiceError."""

    def __init__(self, settings: UpSettings, timeout: float = 30.0):
        self.url = find_url(settings)
        headers = {"authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout)

    def get(self, path: str, *, accept: Collection[int] = (), **params: Any) -> Any:
        """`accept`: statuses beside 2xx whose body is an answer too."""
        return self._request("GET", path, accept, params=params)

    def lines(self, path: str, **params: Any) -> list[Any]:
        """An answer of one JSON object a line."""
        response = self._answer("GET", path, params=params)
        return [json.loads(line) for line in response.text.splitlines()]

    def post(self, path: str, body: Any = None) -> Any:
        return self._request("POST", path, json=body if body is not None else {})

    def delete(self, path: str) -> Any:
        return self._request("DELETE", path)

    def _request(self, method: str, path: str, accept: Collection[int] = (), **options: Any) -> Any:
        response = self._answer(method, path, accept, **options)
        return response.json() if response.content else None

    def _answer(
        self, method: str, path: str, accept: Collection[int] = (), **options: Any
    ) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise ServiceDown(
                f"no service answers at {self.url} ({error or type(error).__name__}); "
                "start one with `burnish up`, or name it with --url"
            ) from error
        if response.is_success or response.status_code in accept:
            return response
        raise ServiceError(_reason(response))


def _reason(response: httpx.Response) -> str:
    try:
        return response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.reason_phrase}"
