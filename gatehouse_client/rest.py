"""One HTTP call: JSON in, JSON out, errors as ApiError; the standard library in a thread."""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from gatehouse_client.errors import ApiError

TIMEOUT_SECONDS = 15.0


class Rest:
    def __init__(self, api_url: str, headers: dict[str, str]) -> None:
        parts = urlsplit(api_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an API address: {api_url!r}; expected http(s)://host[:port]")
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port
        self._prefix = parts.path.rstrip("/")
        self._headers = headers

    async def call(
        self, method: str, path: str, body: dict[str, Any] | None, access_token: str | None
    ) -> dict[str, Any]:
        """The answer's object ({} for 204); raises ApiError, or OSError when nobody answers."""
        return await asyncio.to_thread(self._call, method, path, body, access_token)

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None, access_token: str | None
    ) -> dict[str, Any]:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=TIMEOUT_SECONDS)
        headers = dict(self._headers)
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode("utf-8")
        if access_token is not None:
            headers["Authorization"] = f"Bearer {access_token}"
        try:
            connection.request(method, self._prefix + path, data, headers)
            response = connection.getresponse()
            raw = response.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"no proper answer from the API: {error!r}") from error
        finally:
            connection.close()
        answer = _object(raw)
        if response.status < 400:
            return answer
        shown = answer.get("error")
        if not isinstance(shown, dict):  # a proxy's answer, not the API's
            raise ApiError(response.status, "unavailable", f"HTTP {response.status}", {})
        details = shown.get("details")
        raise ApiError(
            response.status,
            str(shown.get("code")),
            str(shown.get("message")),
            details if isinstance(details, dict) else {},
        )


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw) if raw else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
