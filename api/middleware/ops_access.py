"""Who may call the operators' endpoints: a caller from an allowed network with a token of ours.

From any other network these paths do not exist. A right token is never locked out, whatever others
do from the same address: it is for the person on call. A wrong one is a security event and counts
against its address, like a wrong password, in the same place; so does any call from outside.
"""

from __future__ import annotations

import hmac
import logging

from api import quotas
from api.context import Request, Response
from api.login_attempts import LoginAttempts
from db.connections import UNAVAILABLE, SyncPool
from db.security_events import Event
from rules import limit_subjects
from rules.client_address import Address, Network
from rules.errors import Refusal

logger = logging.getLogger("gatehouse.api")

# Enough for every dashboard, too little for a script that runs wild.
CALLS_A_MINUTE = 600


class OpsAccess:
    """A resource is an operators' one that says `for_operators = True`."""

    def __init__(
        self,
        pool: SyncPool,
        login_attempts: LoginAttempts,
        tokens: tuple[tuple[str, bytes], ...],
        networks: tuple[Network, ...],
    ) -> None:
        self._pool = pool
        self._login_attempts = login_attempts
        self._tokens = tokens
        self._networks = networks

    def process_resource(
        self, req: Request, resp: Response, resource: object, params: dict[str, object]
    ) -> None:
        if not getattr(resource, "for_operators", False):
            return
        address = req.context.address
        if not self._is_inside(address):
            self._count_outsider(address)
            raise Refusal("not_found")
        if req.method == "OPTIONS":
            return
        actor = self._actor(req.get_header("X-Ops-Token") or "")
        if actor is None:
            self._count_refused(address)
            raise Refusal("unauthorized", "Send an operator's token as X-Ops-Token.")
        quotas.spend(
            self._pool,
            lambda connection: quotas.take(
                connection,
                limit_subjects.calls_of_operator(actor),
                maximum=CALLS_A_MINUTE,
                window_seconds=quotas.MINUTE,
                address=address,
            ),
        )
        req.context.actor = actor

    def _is_inside(self, address: Address | None) -> bool:
        if not self._networks:
            return True
        return address is not None and any(address in network for network in self._networks)

    def _count_refused(self, address: Address | None) -> None:
        attempt = self._login_attempts.begin_from(address, "ops")
        self._login_attempts.failed(attempt, Event.ACCESS_REFUSED, None)

    def _count_outsider(self, address: Address | None) -> None:
        """The answer is that of an unknown path, which counts nothing and needs no database."""
        try:
            self._count_refused(address)
        except Refusal:
            pass  # locked out already: of these the limit itself tells now and then
        except UNAVAILABLE as error:
            logger.warning("an outsider could not be counted: %s", type(error).__name__)

    def _actor(self, token: str) -> str | None:
        """Compared with all of them, and as bytes, so that time tells nothing."""
        presented = token.encode("latin-1")  # as it came: WSGI makes characters of bytes
        found = None
        for name, known in self._tokens:
            if hmac.compare_digest(presented, known):
                found = name
        return found
