"""Who may call the operators' endpoints: a caller from an allowed network with a token of ours.

From any other network these paths do not exist. A right token is never locked out, whatever others
do from the same address: it is for the person on call. A wrong one is a security event and counts
against its address, like a wrong password, in the same place.
"""

from __future__ import annotations

import hmac
import logging

from psycopg import Connection

from api import quotas
from api.context import Request, Response
from db import limits, security_events
from db.connections import UNAVAILABLE, SyncPool, in_transaction
from db.limits import Lockout, Outcome
from db.security_events import Event
from rules import limit_subjects
from rules.errors import Refusal
from rules.limit_subjects import Address
from rules.settings import AuthSettings

logger = logging.getLogger("gatehouse.api")

# Enough for every dashboard, too little for a script that runs wild.
CALLS_A_MINUTE = 600


class OpsAccess:
    """A resource is an operators' one that says `for_operators = True`."""

    def __init__(
        self,
        pool: SyncPool,
        tokens: tuple[tuple[str, bytes], ...],
        settings: AuthSettings,
    ) -> None:
        self._pool = pool
        self._tokens = tokens
        self._networks = settings.ops_allowed_networks
        self._maximum = settings.rate_limit_max_attempts_per_ip
        self._window_seconds = settings.rate_limit_window_seconds
        self._lockout = Lockout(
            settings.rate_limit_lockout_seconds, settings.rate_limit_lockout_max_seconds
        )

    def process_resource(
        self, req: Request, resp: Response, resource: object, params: dict[str, object]
    ) -> None:
        if not getattr(resource, "for_operators", False) or req.method == "OPTIONS":
            return
        address = req.context.address
        if self._networks and not any(
            address is not None and address in network for network in self._networks
        ):
            raise Refusal("not_found")
        actor = self._actor(req.get_header("X-Ops-Token") or "")
        if actor is None:
            raise self._refusal_of_a_stranger(address)
        if (refusal := self._count(actor, address)) is not None:
            raise refusal
        req.context.actor = actor

    def _actor(self, token: str) -> str | None:
        """Compared with all of them, and as bytes, so that time tells nothing."""
        presented = token.encode("latin-1")  # as it came: WSGI makes characters of bytes
        found = None
        for name, known in self._tokens:
            if hmac.compare_digest(presented, known):
                found = name
        return found

    def _refusal_of_a_stranger(self, address: Address | None) -> Refusal:
        """Written down and counted before it is answered, as long as there is a database."""
        refusal = Refusal("unauthorized", "Send an operator's token as X-Ops-Token.")
        maxima = {limit_subjects.login_from_ip(address): self._maximum}

        def count(connection: Connection) -> Refusal:
            reservation = limits.reserve(connection, maxima, self._window_seconds, settled=True)
            if not reservation.allowed:
                if reservation.note:
                    security_events.record(connection, Event.RATE_LIMITED, ip=address, what="ops")
                return Refusal("rate_limited", retry_after_seconds=reservation.retry_after_seconds)
            security_events.record(connection, Event.ACCESS_REFUSED, ip=address, what="ops")
            locked = limits.settle(
                connection,
                maxima,
                self._window_seconds,
                reservation=reservation,
                outcome=Outcome.FAILURE,
                clear=(),
                lockout=self._lockout,
            )
            for subject in locked:
                security_events.record(
                    connection,
                    Event.LOGIN_LOCK,
                    ip=address,
                    subject=subject.key,
                    seconds=subject.seconds,
                )
            return refusal

        try:
            return in_transaction(self._pool, count)
        except UNAVAILABLE as error:
            logger.warning("a refused operator could not be counted: %s", type(error).__name__)
            return refusal

    def _count(self, actor: str, address: Address | None) -> Refusal | None:
        return in_transaction(
            self._pool,
            lambda connection: quotas.take(
                connection,
                limit_subjects.calls_of_operator(actor),
                maximum=CALLS_A_MINUTE,
                window_seconds=quotas.MINUTE,
                address=address,
            ),
        )
