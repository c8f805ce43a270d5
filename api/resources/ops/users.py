"""One user in an operator's hands: who it is, and what can be done about it."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from typing import Any

from psycopg import Connection

from api.context import Request, Response
from api.ops_acts import act, operator, record
from api.request_input import Query, read_body
from api.resources.ops.sessions import optional_time, shown_session
from api.services import Services
from db import audit, security_events
from db.connections import in_transaction
from db.operators import (
    Account,
    Acted,
    LockoutSeen,
    Operator,
    UserAct,
    act_on_user,
    list_accounts,
    list_lockouts,
    list_lockouts_of_addresses,
    list_sessions,
)
from db.users import find_user
from rules import fields
from rules.errors import Refusal, invalid_field
from rules.fields import Fields, email_key
from rules.opaque_tokens import hash_token, new_token
from rules.times import rfc3339

MOST_USERS = 50
MOST_LOCKOUTS = 50
LAST_EVENTS = 20
SESSIONS_SHOWN = 50
DEFAULT_MUTE_SECONDS = 3600
# Long enough to reach somebody by mail or support, short enough to be forgotten in a mailbox.
RESET_TOKEN_SECONDS = 24 * 3600


class OpsUsers:
    """GET /ops/users?email= or ?ip=: who it is, with sessions, lockouts and last events.

    ?ip= tells the lockouts of the addresses themselves too, whether or not anybody came from there.
    """

    for_operators = True

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: Request, resp: Response) -> None:
        query = Query(req, "email", "ip")
        email = query.read("email", fields.email)
        network = query.read("ip", fields.network)
        if (email is None) == (network is None):
            raise invalid_field("email", "or ip says whom to find, one of them")

        def read(connection: Connection) -> tuple[dict[str, Any], audit.Head]:
            accounts = list_accounts(
                connection,
                email_key=None if email is None else email_key(email),
                network=network,
                limit=MOST_USERS,
            )
            answer = {"users": [_with_everything(connection, account) for account in accounts]}
            if network is not None:
                locked = list_lockouts_of_addresses(connection, network, MOST_LOCKOUTS)
                answer["lockouts"] = [_shown_lockout(lockout) for lockout in locked]
            only = accounts[0].id if len(accounts) == 1 else None
            head = record(
                connection,
                req,
                "users.read",
                user_id=only,
                user_ids=[account.id for account in accounts],
                filters=query.given,
            )
            return answer, head

        answer, _ = act(self._services.pool, read)
        resp.send_json(200, answer)


class _OnUser(ABC):
    """POST /ops/users/{user_id}/<act> {reason, ...} -> {user_id, audit_id, ...}"""

    for_operators = True

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_post(self, req: Request, resp: Response, user_id: int) -> None:
        body = read_body(req)
        reason = body.required("reason", fields.reason)
        more = self._more(body)
        body.end()
        acted = in_transaction(
            self._services.pool,
            lambda connection: self._act(connection, operator(req), user_id, reason, more),
        )
        if acted is None:
            raise Refusal("not_found", "There is no such user.")
        audit.announce(acted.head)
        answer = {"user_id": user_id, "audit_id": acted.head.id}
        resp.send_json(200, answer | self._told(acted, more))

    def _more(self, body: Fields) -> Any:
        """What this act needs beside a reason."""
        return None

    @abstractmethod
    def _act(
        self, connection: Connection, by: Operator, user_id: int, reason: str, more: Any
    ) -> Acted | None:
        """None where there is no such user."""

    def _told(self, acted: Acted, more: Any) -> dict[str, Any]:
        """What the answer says beyond the audit row."""
        return {}


class PlainAct(_OnUser):
    """Disable: sockets close with account_disabled, no session lives while it lasts. Enable: the
    user may log in again, the sessions of before stay ended."""

    def __init__(self, services: Services, act: UserAct) -> None:
        super().__init__(services)
        self._which = act

    def _act(
        self, connection: Connection, by: Operator, user_id: int, reason: str, more: Any
    ) -> Acted | None:
        return act_on_user(connection, by, self._which, user_id, reason)


class Unlock(_OnUser):
    """Forgets the account's failed logins and lockouts, those of its writing too."""

    def _act(
        self, connection: Connection, by: Operator, user_id: int, reason: str, more: Any
    ) -> Acted | None:
        user = find_user(connection, user_id)
        if user is None:
            return None
        return act_on_user(
            connection,
            by,
            UserAct.UNLOCK,
            user_id,
            reason,
            email_key=email_key(user.email),
        )


class Mute(_OnUser):
    """{seconds?}: an hour unless told otherwise; 0 ends it."""

    def _more(self, body: Fields) -> int:
        seconds = body.optional("seconds", fields.seconds_to_mute)
        return DEFAULT_MUTE_SECONDS if seconds is None else seconds

    def _act(
        self, connection: Connection, by: Operator, user_id: int, reason: str, more: Any
    ) -> Acted | None:
        return act_on_user(connection, by, UserAct.MUTE, user_id, reason, seconds=more)

    def _told(self, acted: Acted, more: Any) -> dict[str, Any]:
        return {"muted_until": optional_time(acted.until) if more else None}


class PasswordReset(_OnUser):
    """The old password is dead at once; the token, told only here, sets a new one once."""

    def _more(self, body: Fields) -> tuple[str, str]:
        nobody_knows = self._services.hasher.hash(secrets.token_urlsafe(32))
        return new_token(), nobody_knows

    def _act(
        self, connection: Connection, by: Operator, user_id: int, reason: str, more: Any
    ) -> Acted | None:
        token, nobody_knows = more
        return act_on_user(
            connection,
            by,
            UserAct.RESET,
            user_id,
            reason,
            seconds=RESET_TOKEN_SECONDS,
            password_hash=nobody_knows,
            token_hash=hash_token(token),
        )

    def _told(self, acted: Acted, more: Any) -> dict[str, Any]:
        token, _ = more
        return {"reset_token": token, "expires_at": optional_time(acted.until)}


def _with_everything(connection: Connection, account: Account) -> dict[str, Any]:
    sessions = list_sessions(
        connection, user_id=account.id, network=None, before_id=None, limit=SESSIONS_SHOWN
    )
    wanted = security_events.EventFilter(user_id=account.id)
    events = security_events.list_events(connection, wanted, LAST_EVENTS)
    lockouts = list_lockouts(connection, account.id, email_key(account.email))
    return {
        "id": account.id,
        "email": account.email,
        "display_name": account.display_name,
        "is_admin": account.is_admin,
        "created_at": rfc3339(account.created_at),
        "disabled_at": optional_time(account.disabled_at),
        "muted_until": optional_time(account.muted_until),
        "sessions": [shown_session(session) for session in sessions],
        "lockouts": [_shown_lockout(lockout) for lockout in lockouts],
        "events": [event.as_object() for event in events],
    }


def _shown_lockout(lockout: LockoutSeen) -> dict[str, Any]:
    return {
        "subject": lockout.key,
        "locked_until": rfc3339(lockout.locked_until),
        "lockouts": lockout.lockouts,
    }
