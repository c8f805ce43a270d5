"""The release gate for bearers: whose client is too old gets 426, but may still end sessions.

The policy came with the session, in one statement (api/middleware/authentication.py).
"""

from __future__ import annotations

from api.context import Request, Response
from api.release_gate import refusal_of_outdated


class ReleaseGate:
    """A resource serves outdated clients too with `ungated_methods = frozenset({"DELETE"})`."""

    def process_resource(
        self, req: Request, resp: Response, resource: object, params: dict[str, object]
    ) -> None:
        session = req.context.session
        if session is None or req.method in getattr(resource, "ungated_methods", ()):
            return
        refusal = refusal_of_outdated(
            req.policy, session.now, req.client(), is_admin=session.is_admin
        )
        if refusal is not None:
            raise refusal
