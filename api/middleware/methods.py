"""A method that a resource does not have is refused before anybody is asked who they are.

falcon answers a method it has never heard of with 400; to a client it is one more that is not
allowed here.
"""

from __future__ import annotations

import falcon

from api.context import Request, Response
from api.http_methods import allowed_methods


class Methods:
    def process_resource(
        self, req: Request, resp: Response, resource: object, params: dict[str, object]
    ) -> None:
        allowed = allowed_methods(resource)
        if req.method not in allowed:
            raise falcon.HTTPMethodNotAllowed(allowed)
