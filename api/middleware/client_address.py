"""Who is calling, and whether by HTTPS, as far as the trusted proxies in front can tell."""

from __future__ import annotations

from api.context import Request, Response
from rules.client_address import came_by_https, client_address


class ClientAddress:
    def __init__(self, trusted_hops: int) -> None:
        self._trusted_hops = trusted_hops

    def process_request(self, req: Request, resp: Response) -> None:
        # Read from the header as it came: falcon's access_route would trust all of it.
        req.context.address = client_address(
            req.env.get("REMOTE_ADDR", ""), req.get_header("X-Forwarded-For"), self._trusted_hops
        )
        req.context.secure = came_by_https(req.get_header("X-Forwarded-Proto"), self._trusted_hops)
