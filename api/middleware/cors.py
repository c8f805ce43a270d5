"""Cross-origin requests from an exact list of origins; for all others no CORS header at all."""

from __future__ import annotations

from collections.abc import Collection

import falcon

from api.context import Request, Response

ALLOWED_HEADERS = (
    "Authorization, Content-Type, X-Request-ID, X-Client-Version, X-Client-Content-Version"
)
ALLOWED_METHODS = "GET, POST, PATCH, DELETE"
EXPOSED_HEADERS = "X-Request-ID, Retry-After"
PREFLIGHT_MAX_AGE_SECONDS = "600"


class Cors:
    def __init__(self, allowed_origins: Collection[str]) -> None:
        self._allowed = frozenset(allowed_origins)

    def process_request(self, req: Request, resp: Response) -> None:
        """A preflight is answered here: before routing, authentication and gate."""
        if req.method == "OPTIONS" and self._is_allowed(req) and _asks_for_method(req):
            resp.set_header("Access-Control-Allow-Methods", ALLOWED_METHODS)
            resp.set_header("Access-Control-Allow-Headers", ALLOWED_HEADERS)
            resp.set_header("Access-Control-Max-Age", PREFLIGHT_MAX_AGE_SECONDS)
            resp.status = falcon.HTTP_204
            resp.complete = True

    def process_response(
        self, req: Request, resp: Response, resource: object, req_succeeded: bool
    ) -> None:
        for name, value in origin_headers(req.get_header("Origin"), self._allowed):
            resp.append_header(name, value)

    def _is_allowed(self, req: Request) -> bool:
        return req.get_header("Origin") in self._allowed


def origin_headers(origin: str | None, allowed: frozenset[str]) -> list[tuple[str, str]]:
    """What an answer says about origins; the server below says the same on its own answers.

    No Access-Control-Allow-Credentials: tokens travel in a header that a page sets itself, and
    nothing that a browser adds of its own accord counts here.
    """
    if not allowed:
        return []
    # A cache must not serve one origin's answer to another (Fetch standard, "CORS and caches").
    headers = [("Vary", "Origin")]
    if origin is not None and origin in allowed:
        headers.append(("Access-Control-Allow-Origin", origin))
        headers.append(("Access-Control-Expose-Headers", EXPOSED_HEADERS))
    return headers


def _asks_for_method(req: Request) -> bool:
    return req.get_header("Access-Control-Request-Method") is not None
