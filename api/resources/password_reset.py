"""A forgotten password: an operator's one-time token sets a new one."""

from __future__ import annotations

import falcon
from psycopg import Connection

from api.common_passwords import new_password
from api.context import Request, Response
from api.request_input import read_body
from api.services import Services
from db import security_events
from db.connections import in_transaction
from db.security_events import Event
from db.users import has_password_reset, redeem_password_reset
from rules import fields
from rules.errors import Refusal
from rules.opaque_tokens import hash_token, is_token


class PasswordReset:
    """POST /auth/password-reset {reset_token, new_password} -> 204; ends all sessions.

    A wrong token counts against its address like a wrong password. An unknown one, a spent one and
    an old one are answered alike.
    """

    public_methods = frozenset({"POST"})

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: Request, resp: Response) -> None:
        body = read_body(req)
        token = body.required("reset_token", fields.text)
        password = body.required("new_password", new_password)
        body.end()
        services, address = self._services, req.context.address
        attempt = services.login_attempts.begin_from(address, "password_reset")
        refusal = Refusal("invalid_credentials", "The reset token is not valid any more.")
        token_hash = hash_token(token) if is_token(token) else None
        with services.pool.connection() as connection:
            known = token_hash is not None and has_password_reset(connection, token_hash)
        if not known or token_hash is None:
            services.login_attempts.failed(attempt, Event.PASSWORD_CHANGE_FAIL, None)
            raise refusal
        spent = token_hash
        try:
            password_hash = services.hasher.hash(password)
        except Refusal:
            services.login_attempts.released(attempt)
            raise

        def set_password(connection: Connection) -> int | None:
            user_id = redeem_password_reset(connection, spent, password_hash)
            if user_id is not None:
                security_events.record(
                    connection, Event.PASSWORD_CHANGE, ip=address, user_id=user_id, how="reset"
                )
                services.login_attempts.succeeded(connection, attempt)
            return user_id

        if in_transaction(services.pool, set_password) is None:
            services.login_attempts.failed(attempt, Event.PASSWORD_CHANGE_FAIL, None)
            raise refusal
        resp.status = falcon.HTTP_204
