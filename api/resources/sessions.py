"""The session one has: renewing it, looking at it, ending it."""

from __future__ import annotations

import falcon
from psycopg import Connection

from api import quotas
from api.common_passwords import new_password
from api.context import Request, Response
from api.release_gate import refusal_of_outdated, refuse_outdated
from api.request_input import read_body, read_no_fields
from api.services import Services
from api.session_answers import session_answer, session_object, user_object
from db import security_events
from db.connections import in_transaction
from db.releases import PolicyNow, hold_policy
from db.security_events import Event
from db.sessions import (
    ClientInfo,
    Refreshed,
    RefreshTerms,
    RefreshVerdict,
    find_live_session,
    list_live_sessions,
    lock_session_of,
    lock_user,
    lock_user_if_unchanged,
    refresh_session,
    revoke_other_sessions,
    revoke_session,
    revoke_session_of_user,
)
from db.users import find_user, replace_password_hash, update_display_name
from rules import fields, limit_subjects
from rules.errors import Refusal
from rules.opaque_tokens import is_token
from rules.versions import version_status

_REFUSED = {
    RefreshVerdict.UNKNOWN: "refresh_token_invalid",
    RefreshVerdict.REUSED: "refresh_token_reused",
    RefreshVerdict.ENDED: "session_revoked",
    RefreshVerdict.DRAINED: "drained",
}
_GATED = (RefreshVerdict.DRAINED, RefreshVerdict.RENEWED)


class Refresh:
    """POST /auth/refresh {refresh_token} -> 200 session, with the token's successor.

    After a drain it is a new session, for a client that is up to date.
    """

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
        # Verdict and refusal come out of the transaction as values: what it found must commit.
        refreshed, held, refusal = in_transaction(
            self._services.pool, lambda connection: self._refresh(connection, token, client)
        )
        if refusal is not None:
            raise refusal
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
            policy=held.policy,
        )
        resp.send_json(200, answer)

    def _refresh(
        self, connection: Connection, token: str, client: ClientInfo
    ) -> tuple[Refreshed, PolicyNow, Refusal | None]:
        """A refused refresh spends nothing: the gate and the session's quota are asked first."""
        auth = self._services.settings.auth
        held = hold_policy(connection)
        # Admins are never drained; whoever is must pass the gate to come back.
        refusal = refusal_of_outdated(held.policy, held.now, client, is_admin=False)
        session_id = lock_session_of(connection, token)
        if session_id is None:
            return Refreshed(RefreshVerdict.UNKNOWN), held, None
        session = find_live_session(connection, session_id)
        if session is not None:
            refuse_outdated(held, client, is_admin=session.is_admin)
        too_many = quotas.take(
            connection,
            limit_subjects.refreshes_of_session(session_id),
            maximum=auth.refreshes_per_session_per_minute,
            window_seconds=quotas.MINUTE,
            address=client.ip,
            user_id=session.user_id if session else None,
            session_id=session_id,
        )
        if too_many is not None:
            return Refreshed(RefreshVerdict.ENDED), held, too_many
        refreshed = refresh_session(
            connection,
            token,
            grace_seconds=auth.refresh_reuse_grace_seconds,
            client=client,
            terms=RefreshTerms(
                idle_days=auth.session_idle_days,
                reentry_hours=auth.drain_reentry_hours,
                passes_gate=refusal is None,
                max_per_account=auth.max_sessions_per_account,
            ),
        )
        session = refreshed.session
        is_admin = session is not None and session.is_admin
        # RENEWED: also the answer of a way back that is repeated, to whom the gate was not put yet.
        if refusal is not None and not is_admin and refreshed.verdict in _GATED:
            return refreshed, held, refusal
        if refreshed.verdict is RefreshVerdict.REUSED:
            security_events.record(
                connection,
                Event.TOKEN_REUSE,
                ip=client.ip,
                user_id=session.user_id if session else None,
                session_id=session.session_id if session else session_id,
            )
        elif refreshed.verdict is RefreshVerdict.RETURNED and session is not None:
            security_events.record(
                connection,
                Event.SESSION_CREATED,
                ip=client.ip,
                user_id=session.user_id,
                session_id=session.session_id,
                after_drain_of=session_id,
            )
        return refreshed, held, None


class Logout:
    """POST /auth/logout -> 204; ends the bearer's session, and with it its sockets."""

    ungated_methods = frozenset({"POST"})

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: Request, resp: Response) -> None:
        read_no_fields(req)

        def end(connection: Connection) -> None:
            if revoke_session(connection, req.session.session_id, "logout"):
                _record_end(connection, req, req.session.session_id, "logout")

        in_transaction(self._services.pool, end)
        resp.status = falcon.HTTP_204


class Sessions:
    """GET /auth/sessions: the user's live ones; DELETE ends all but the bearer's."""

    ungated_methods = frozenset({"DELETE"})  # whatever one runs, a thief is thrown out

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: Request, resp: Response) -> None:
        with self._services.pool.connection() as connection:
            sessions = list_live_sessions(connection, req.session.user_id)
        shown = [
            session_object(session) | {"current": session.session_id == req.session.session_id}
            for session in sessions
        ]
        resp.send_json(200, {"sessions": shown})

    def on_delete(self, req: Request, resp: Response) -> None:
        def end(connection: Connection) -> None:
            # Whoever comes back from a drain opens a session behind this lock, or before it.
            lock_user(connection, req.session.user_id)
            ended = revoke_other_sessions(
                connection,
                req.session.user_id,
                except_session_id=req.session.session_id,
                reason="ended_by_user",
            )
            if ended:
                _record_end(connection, req, None, "ended_by_user", sessions=ended)

        in_transaction(self._services.pool, end)
        resp.status = falcon.HTTP_204


class OneSession:
    """DELETE /auth/sessions/{session_id} -> 204; one's own, and live, or 404."""

    ungated_methods = frozenset({"DELETE"})

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_delete(self, req: Request, resp: Response, session_id: int) -> None:
        def end(connection: Connection) -> None:
            if not revoke_session_of_user(connection, session_id, req.session.user_id):
                raise Refusal("not_found")
            _record_end(connection, req, session_id, "ended_by_user")

        in_transaction(self._services.pool, end)
        resp.status = falcon.HTTP_204


class Password:
    """POST /auth/password {current_password, new_password} -> 204; ends the other sessions."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: Request, resp: Response) -> None:
        body = read_body(req)
        current = body.required("current_password", fields.submitted_password)
        new = body.required("new_password", new_password)
        body.end()
        services, session = self._services, req.session
        attempts = services.login_attempts
        attempt = attempts.begin(session.email, req.context.address)
        try:
            with services.pool.connection() as connection:
                user = find_user(connection, session.user_id)
            if user is None or not services.hasher.verify(current, user.password_hash):
                attempts.failed(attempt, Event.PASSWORD_CHANGE_FAIL, session.user_id)
                raise Refusal("invalid_credentials", "The current password is wrong.")
            new_hash = services.hasher.hash(new)
        except Refusal as refusal:
            if refusal.code != "invalid_credentials":
                attempts.released(attempt)
            raise
        checked_hash = user.password_hash

        def change(connection: Connection) -> None:
            if not lock_user_if_unchanged(connection, session.user_id, checked_hash):
                raise Refusal("conflict", "The password was changed elsewhere. Log in again.")
            replace_password_hash(
                connection, session.user_id, checked_hash=checked_hash, new_hash=new_hash
            )
            revoke_other_sessions(
                connection,
                session.user_id,
                except_session_id=session.session_id,
                reason="password_changed",
            )
            security_events.record(
                connection,
                Event.PASSWORD_CHANGE,
                ip=req.context.address,
                user_id=session.user_id,
                session_id=session.session_id,
            )
            attempts.succeeded(connection, attempt)

        in_transaction(services.pool, change)
        resp.status = falcon.HTTP_204


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
                req.policy, client.version, client.content_version, session.now
            ),
        }


def _record_end(
    connection: Connection, req: Request, session_id: int | None, reason: str, **details: int
) -> None:
    security_events.record(
        connection,
        Event.SESSION_ENDED,
        ip=req.context.address,
        user_id=req.session.user_id,
        session_id=session_id,
        reason=reason,
        **details,
    )
