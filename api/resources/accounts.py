"""Registering and logging in: the two ways to a first session."""

from __future__ import annotations

from psycopg import Connection

from api import quotas
from api.common_passwords import new_password
from api.context import Request, Response
from api.release_gate import refuse_outdated
from api.request_input import read_body
from api.services import Services
from api.session_answers import session_answer, user_object
from db import security_events
from db.connections import in_transaction
from db.releases import PolicyNow, find_policy, hold_policy
from db.security_events import Event
from db.sessions import ClientInfo, OpenedSession, open_session
from db.users import User, find_user_by_email, insert_user, replace_password_hash
from rules import fields, limit_subjects
from rules.errors import Refusal
from rules.versions import version_status


class Register:
    """POST /auth/register {email, password, display_name} -> 201 session."""

    public_methods = frozenset({"POST"})

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: Request, resp: Response) -> None:
        body = read_body(req)
        email = body.required("email", fields.email)
        password = body.required("password", new_password)
        display_name = body.required("display_name", fields.display_name)
        body.end()
        client = req.client()
        # Hashed before the transaction: no row stays locked for a fifth of a second.
        password_hash = self._services.hasher.hash(password, once_admitted=lambda: self._count(req))

        def create(connection: Connection) -> tuple[User, OpenedSession, PolicyNow]:
            held = hold_policy(connection)
            refuse_outdated(held, client, is_admin=False)
            user = insert_user(
                connection, email=email, password_hash=password_hash, display_name=display_name
            )
            if user is None:
                raise Refusal("email_taken")
            security_events.record(connection, Event.USER_CREATED, ip=client.ip, user_id=user.id)
            session = _open(self._services, connection, user, password_hash, client)
            return user, session, held

        user, session, held = in_transaction(self._services.pool, create)
        resp.send_json(201, _answer(self._services, user, session, client, held))

    def _count(self, req: Request) -> None:
        """Every attempt counts, email_taken too: else one could ask who has an account.

        An outdated client's does not: it is told so before its password is hashed.
        """
        key = limit_subjects.registration_from_ip(req.context.address)

        def count(connection: Connection) -> Refusal | None:
            refuse_outdated(find_policy(connection), req.client(), is_admin=False)
            return quotas.take(
                connection,
                key,
                maximum=self._services.settings.auth.registrations_per_ip_per_hour,
                window_seconds=quotas.HOUR,
                address=req.context.address,
            )

        quotas.spend(self._services.pool, count)


class Login:
    """POST /auth/login {email, password} -> 200 session.

    Unknown account, wrong password and disabled account are answered alike, in bytes and in time.
    """

    public_methods = frozenset({"POST"})

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: Request, resp: Response) -> None:
        body = read_body(req)
        email = body.required("email", fields.email)
        password = body.required("password", fields.submitted_password)
        body.end()
        client = req.client()
        services, attempts = self._services, self._services.login_attempts
        attempt = attempts.begin(email, client.ip)
        try:
            with services.pool.connection() as connection:
                user = find_user_by_email(connection, email)
            right = services.hasher.verify(password, user.password_hash if user else None)
            if user is None or not right or user.disabled:
                attempts.failed(attempt, Event.LOGIN_FAIL, user.id if user else None)
                raise Refusal("invalid_credentials")
            checked_hash = self._current_hash(user, password)
        except Refusal as refusal:
            if refusal.code != "invalid_credentials":
                attempts.released(attempt)
            raise

        def open_session(connection: Connection) -> tuple[OpenedSession, PolicyNow]:
            held = hold_policy(connection)
            refuse_outdated(held, client, is_admin=user.is_admin)
            session = _open(services, connection, user, checked_hash, client)
            security_events.record(
                connection,
                Event.LOGIN_SUCCESS,
                ip=client.ip,
                user_id=user.id,
                session_id=session.id,
            )
            attempts.succeeded(connection, attempt)
            return session, held

        try:
            session, held = in_transaction(services.pool, open_session)
        except Refusal:
            attempts.released(attempt)
            raise
        resp.send_json(200, _answer(services, user, session, client, held))

    def _current_hash(self, user: User, password: str) -> str:
        """The user's hash; with today's cost, where it was made with another."""
        hasher = self._services.hasher
        if not hasher.needs_rehash(user.password_hash):
            return user.password_hash
        new_hash = hasher.hash(password)
        with self._services.pool.connection() as connection:
            replaced = replace_password_hash(
                connection, user.id, checked_hash=user.password_hash, new_hash=new_hash
            )
        return new_hash if replaced else user.password_hash


def _open(
    services: Services,
    connection: Connection,
    user: User,
    checked_hash: str,
    client: ClientInfo,
) -> OpenedSession:
    session = open_session(
        connection,
        user.id,
        checked_hash=checked_hash,
        client=client,
        terms=services.session_terms(is_admin=user.is_admin),
    )
    if session is None:
        # The password changed or the account was disabled while this login was being checked.
        raise Refusal("invalid_credentials")
    if session.is_drained:
        held = find_policy(connection)
        status = version_status(held.policy, client.version, client.content_version, held.now)
        status["update_required"] = True  # for the drain, whatever the policy says
        raise Refusal("update_required", details={"version_status": status})
    security_events.record(
        connection, Event.SESSION_CREATED, ip=client.ip, user_id=user.id, session_id=session.id
    )
    return session


def _answer(
    services: Services,
    user: User,
    session: OpenedSession,
    client: ClientInfo,
    held: PolicyNow,
) -> dict[str, object]:
    return session_answer(
        services.access_tokens,
        session_id=session.id,
        expires_at=session.expires_at,
        now=session.now,
        refresh_token=session.refresh_token,
        user=user_object(user.id, user.email, user.display_name, user.is_admin),
        client=client,
        policy=held.policy,
    )
