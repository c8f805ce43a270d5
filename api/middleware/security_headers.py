"""Puts the security headers on every response of the app."""

from __future__ import annotations

from api.context import Request, Response
from rules.security_headers import security_headers


class SecurityHeaders:
    def process_response(
        self, req: Request, resp: Response, resource: object, req_succeeded: bool
    ) -> None:
        for name, value in security_headers(secure=req.context.secure):
            resp.set_header(name, value)
