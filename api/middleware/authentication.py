"""Bearer tokens: every resource requires one unless it says otherwise for a method.

The token only says who asks. Whether the session lives is read from Postgres each time, in one
statement, so that a revocation counts from its commit on.
"""

from __future__ import annotations

from datetime import timedelta

from api.context import Request, Response
from db.connections import SyncPool
from db.sessions import find_live_session_and_policy, is_session_drained, touch_session
from rules.access_tokens import AccessTokens
from rules.errors import Refusal

TOUCH_AFTER = timedelta(minutes=1)


class Authentication:
    """A resource opens a method to everybody with `public_methods = frozenset({"POST"})`."""

    def __init__(self, pool: SyncPool, access_tokens: AccessTokens, idle_days: int) -> None:
        self._pool = pool
        self._access_tokens = access_tokens
        self._idle_days = idle_days

    def process_resource(
        self, req: Request, resp: Response, resource: object, params: dict[str, object]
    ) -> None:
        if resource is None or req.method == "OPTIONS":
            return
        method = "GET" if req.method == "HEAD" else req.method  # see api/http_methods.py
        if method in getattr(resource, "public_methods", ()):
            return
        if getattr(resource, "for_operators", False):
            return  # api/middleware/ops_access.py has looked at it
        claims = self._access_tokens.read(_bearer(req))
        with self._pool.connection() as connection:
            found = find_live_session_and_policy(connection, claims.session_id)
            if found is None and is_session_drained(connection, claims.session_id):
                raise Refusal("drained")
            if found is None or found[0].user_id != claims.user_id:
                raise Refusal("session_revoked")
            session, policy = found
            if claims.expires_at <= session.now.timestamp():
                raise Refusal("token_expired")
            if session.now - session.last_seen_at > TOUCH_AFTER:
                touch_session(connection, session.session_id, self._idle_days)
        req.context.session, req.context.policy = session, policy


def _bearer(req: Request) -> str:
    scheme, _, token = (req.get_header("Authorization") or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Refusal("unauthorized", "Send the access token as: Authorization: Bearer <token>")
    return token.strip()
