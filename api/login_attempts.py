"""Guessing passwords, bounded: by the address, by the account from a network, by the account.

An attempt is reserved before the password is looked at and settled afterwards. The account over all
networks has ten times the room, and a network where the account has logged in lately is exempt from
it: an attacker elsewhere cannot lock a player out at home. The submitted e-mail is the subject
whether or not the account exists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from psycopg import Connection

from db import limits, security_events
from db.connections import SyncPool, in_transaction
from db.limits import Lockout, Outcome, Reservation
from db.security_events import Event
from rules import limit_subjects
from rules.client_address import Address
from rules.errors import Refusal
from rules.fields import email_key
from rules.settings import AuthSettings

# The account over all networks has this many times the room of one network.
EVERYWHERE_FACTOR = 10


@dataclass(frozen=True, slots=True)
class Attempt:
    """A reserved attempt; settle it exactly once."""

    address: Address | None
    maxima: Mapping[str, int]
    reservation: Reservation
    cleared_by_success: str | None  # never the address


class LoginAttempts:
    def __init__(self, pool: SyncPool, settings: AuthSettings) -> None:
        self._pool = pool
        self._per_ip = settings.rate_limit_max_attempts_per_ip
        self._per_account = settings.rate_limit_max_attempts_per_account
        self._window_seconds = settings.rate_limit_window_seconds
        self._lockout = Lockout(
            settings.rate_limit_lockout_seconds, settings.rate_limit_lockout_max_seconds
        )

    def begin(self, email: str, address: Address | None) -> Attempt:
        """Reserves one attempt on the account, or raises Refusal rate_limited."""
        key = email_key(email)
        from_network = limit_subjects.login_to_account_from_network(key, address)

        def maxima(connection: Connection) -> dict[str, int]:
            room = {from_network: self._per_account}
            at_home = address is not None and limits.has_logged_in_from(
                connection, key, limit_subjects.network(address)
            )
            if not at_home:
                everywhere = limit_subjects.login_to_account(key)
                room[everywhere] = EVERYWHERE_FACTOR * self._per_account
            return room

        return self._begin(address, maxima, what="login", cleared_by_success=from_network)

    def begin_from(self, address: Address | None, what: str) -> Attempt:
        """Reserves one attempt of the address alone: `what` is no matter of an account."""
        return self._begin(address, lambda _: {}, what=what, cleared_by_success=None)

    def _begin(
        self,
        address: Address | None,
        more: Callable[[Connection], dict[str, int]],
        *,
        what: str,
        cleared_by_success: str | None,
    ) -> Attempt:
        def reserve(connection: Connection) -> Attempt:
            maxima = {limit_subjects.login_from_ip(address): self._per_ip, **more(connection)}
            reservation = limits.reserve(connection, maxima, self._window_seconds, settled=True)
            if not reservation.allowed and reservation.note:
                security_events.record(connection, Event.RATE_LIMITED, ip=address, what=what)
            return Attempt(address, maxima, reservation, cleared_by_success)

        attempt = in_transaction(self._pool, reserve)
        if not attempt.reservation.allowed:
            raise Refusal(
                "rate_limited", retry_after_seconds=attempt.reservation.retry_after_seconds
            )
        return attempt

    def succeeded(self, connection: Connection, attempt: Attempt) -> None:
        """In the transaction of what was allowed; clears this network's failures, not the IP's."""
        self._settle(connection, attempt, Outcome.SUCCESS)

    def failed(self, attempt: Attempt, event: Event, user_id: int | None) -> None:
        """Commits by itself: it must be remembered although the answer is an error."""

        def settle(connection: Connection) -> None:
            security_events.record(connection, event, ip=attempt.address, user_id=user_id)
            self._settle(connection, attempt, Outcome.FAILURE, user_id)

        in_transaction(self._pool, settle)

    def released(self, attempt: Attempt) -> None:
        """The password was not looked at, or not the reason for the refusal."""
        in_transaction(
            self._pool, lambda connection: self._settle(connection, attempt, Outcome.RELEASE)
        )

    def _settle(
        self,
        connection: Connection,
        attempt: Attempt,
        outcome: Outcome,
        user_id: int | None = None,
    ) -> None:
        locked = limits.settle(
            connection,
            attempt.maxima,
            self._window_seconds,
            reservation=attempt.reservation,
            outcome=outcome,
            clear=[attempt.cleared_by_success] if attempt.cleared_by_success else (),
            lockout=self._lockout,
        )
        for subject in locked:
            security_events.record(
                connection,
                Event.LOGIN_LOCK,
                ip=attempt.address,
                user_id=user_id,
                subject=subject.key,
                seconds=subject.seconds,
            )
