"""GET /openapi.json and GET /asyncapi.json: what tools read to know the two services."""

from __future__ import annotations

from typing import Any

from api.context import Request, Response


class Description:
    """One document, put together once at the start: it changes with the settings alone."""

    public_methods = frozenset({"GET"})

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def on_get(self, req: Request, resp: Response) -> None:
        resp.send_json(200, self._document)
