"""The session one has: renewing it, looking at it, ending it."""

from __future__ import annotations

from api.context import Request, Response
from api.request_input import read_body, read_no_fields
from api.services import Services
from api.session_answers import session_answer, session_object, user_object
from db.connections import in_transaction
from db.sessions import RefreshVerdict, refresh_session, revoke_session
from db.users import update_display_name
from rules import fields
from rules.errors import Refusal
from rules.opaque_tokens import is_token
from rules.versions import ReleasePolicy, version_status

_REFUSED = {
    RefreshVerdict.UNKNOWN: "refresh_token_invalid",
    RefreshVerdict.REUSED: "refresh_token_reused",
    RefreshVerdict.ENDED: "session_revoked",
}


class Refresh:
    """POST /auth/refresh {refresh_token} -> 200 session, with the token's successor."""

    public_methods = frozenset({"POST"})

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: Request, resp: Response) -> None:
        body = read_body(req)
        token = body.required("refresh_token", fields.text)
        body.end()
        if not is_token(token):
            raise Refusal("refresh_token_invalid")
        client = req.client()
        # The verdict comes out of the transaction as a value: a theft that it found must commit.
        refreshed = in_transaction(
            self._services.pool,
            lambda connection: refresh_session(
                connection,
                token,
                grace_seconds=self._services.settings.auth.refresh_reuse_grace_seconds,
                client=client,
            ),
        )
        session = refreshed.session
        if refreshed.refresh_token is None or session is None:
            raise Refusal(_REFUSED[refreshed.verdict])
        answer = session_answer(
            self._services.access_tokens,
            session_id=session.session_id,
            expires_at=session.expires_at,
            now=session.now,
            refresh_token=refreshed.refresh_token,
            user=user_object(
                session.user_id, session.email, session.display_name, session.is_admin
            ),
            client=client,
        )
        resp.send_json(200, answer)


class Logout:
    """POST /auth/logout -> 204; ends the bearer's session, and with it its sockets."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: Request, resp: Response) -> None:
        read_no_fields(req)
        with self._services.pool.connection() as connection:
            revoke_session(connection, req.session.session_id, "logout")
        resp.status = 204


class Me:
    """GET /auth/me -> {user, session, version_status}; PATCH {display_name} -> the same."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: Request, resp: Response) -> None:
        resp.send_json(200, self._answer(req, req.session.display_name))

    def on_patch(self, req: Request, resp: Response) -> None:
        body = read_body(req)
        display_name = body.required("display_name", fields.display_name)
        body.end()
        with self._services.pool.connection() as connection:
            update_display_name(connection, req.session.user_id, display_name)
        resp.send_json(200, self._answer(req, display_name))

    def _answer(self, req: Request, display_name: str) -> dict[str, object]:
        session, client = req.session, req.client()
        return {
            "user": user_object(session.user_id, session.email, display_name, session.is_admin),
            "session": session_object(session),
            "version_status": version_status(
                ReleasePolicy(), client.version, client.content_version, session.now
            ),
        }
