"""The commands' way to a running service: finds it, speaks its HTTP API, words its errors.

Chat goes through the openai package instead (chat.py), as a product's would.
"""

from __future__ import annotations

from typing import Any

import httpx2 as httpx
from burnish.ops.settings import UpSettings
from burnish.ops.supervisor import runfile


class ServiceError(RuntimeError):
    """The service refused, and said why."""


class ServiceDown(ServiceError):
    """Nothing answers at the address."""


def find_url(settings: UpSettings) -> str:
    """BURNISH_URL, else the service running on this data folder, else the host and port."""
    if settings.url:
        return settings.url.rstrip("/").removesuffix("/v1")
    if found := runfile.running(settings.data_dir):
        return found.url
    return f"http://{settings.host}:{settings.port}"


class Service:
    def __init__(self, settings: UpSettings, timeout: float = 30.0):
        self.url = find_url(settings)
        headers = {"authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout)

    def get(self, path: str, **params: Any) -> Any:
        return self._ask("GET", path, params=params)

    def post(self, path: str, body: Any = None) -> Any:
        return self._ask("POST", path, json=body if body is not None else {})

    def _ask(self, method: str, path: str, **how: Any) -> Any:
        try:
            answer = self._http.request(method, path, **how)
        except httpx.TransportError as error:
            raise ServiceDown(
                f"no service answers at {self.url} ({error or type(error).__name__}); "
                "start one with `burnish up`, or name it with --url"
            ) from error
        if answer.is_success:
            return answer.json() if answer.content else None
        raise ServiceError(_reason(answer))


def _reason(answer: httpx.Response) -> str:
    try:
        return answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.reason_phrase}"
