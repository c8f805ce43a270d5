"""From a ticket to a connection: tickets that arrive together are spent in one statement."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from db.connections import CONFLICTED, FAILED, UNAVAILABLE, AsyncPool
from db.tickets import (
    Admission,
    Outdated,
    PresentedTicket,
    find_known_tickets,
    redeem_tickets,
)
from rules.client_address import Address
from rules.errors import Refusal
from rules.opaque_tokens import is_token
from rules.recent import RecentCount
from wsgateway.batching import Batcher, outcome_within
from wsgateway.lockouts import Lockouts
from wsgateway.presence import Presence

logger = logging.getLogger("gatehouse.gateway")

MAX_BATCH = 100
MAX_WAITING = 2_000
ATTEMPTS = 3
# More than the database is given for it: the pool's wait and the statement's timeout.
DECIDE_WITHIN_SECONDS = 10.0


@dataclass(slots=True)
class _PendingAdmission:
    presented: PresentedTicket
    outcome: asyncio.Future[Admission | Outdated | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class AdmissionDesk:
    def __init__(
        self, pool: AsyncPool, presence: Presence, lockouts: Lockouts, max_per_account: int
    ) -> None:
        self._pool = pool
        self._presence = presence
        self._lockouts = lockouts
        self._max_per_account = max_per_account
        self._batcher = Batcher(self._redeem, max_batch=MAX_BATCH, max_waiting=MAX_WAITING)
        self.refused = RecentCount(seconds=300)

    async def run(self) -> None:
        await self._batcher.run()

    async def admit(self, ticket: str | None, address: Address | None) -> Admission:
        """Spends the ticket, or raises Refusal ticket_invalid or update_required, or at_capacity
        without spending.

        Missing, unknown, used and expired are one reason: a guesser learns nothing. What was never
        issued counts against the address like a wrong password; a ticket that came twice does not,
        for a client's own retry is no guess.
        """
        if ticket is None or not is_token(ticket):
            self.refused.add(1, time.monotonic())
            self._lockouts.count_failure(address)
            raise Refusal("ticket_invalid")
        pending = _PendingAdmission(PresentedTicket(ticket, address))
        if not self._batcher.submit(pending):
            raise Refusal("at_capacity")
        try:
            admission = await outcome_within(pending.outcome, DECIDE_WITHIN_SECONDS)
        except TimeoutError:  # a database that stands still; should it move on, nobody is there
            raise Refusal("at_capacity") from None
        if admission is None:
            self.refused.add(1, time.monotonic())
            raise Refusal("ticket_invalid")
        if isinstance(admission, Outdated):
            raise Refusal("update_required")
        return admission

    async def _redeem(self, batch: list[_PendingAdmission]) -> None:
        presented = [pending.presented for pending in batch]
        try:
            admissions = await self._spend(presented)
        except Exception as error:
            expected = isinstance(error, (*UNAVAILABLE, *CONFLICTED))
            logger.error("tickets cannot be checked", exc_info=None if expected else error)
            for pending in batch:
                if not pending.outcome.done():
                    pending.outcome.set_exception(Refusal("at_capacity"))
            return
        for pending, admission in zip(batch, admissions, strict=True):
            if isinstance(admission, Admission):
                self._presence.opened(admission)
            if not pending.outcome.done():
                pending.outcome.set_result(admission)
            elif isinstance(admission, Admission):  # its socket has gone meanwhile
                self._presence.ended(admission.connection_id)
        unfit = [
            one for one, admission in zip(presented, admissions, strict=True) if admission is None
        ]
        if unfit:
            await self._count_made_up(unfit)

    async def _spend(
        self, presented: Sequence[PresentedTicket]
    ) -> Sequence[Admission | Outdated | None]:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._pool.connection() as connection:
                    return await redeem_tickets(
                        connection,
                        presented,
                        instance_id=self._presence.instance_id,
                        max_per_account=self._max_per_account,
                    )
            except CONFLICTED:
                if attempt == ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    async def _count_made_up(self, unfit: Sequence[PresentedTicket]) -> None:
        try:
            async with self._pool.connection() as connection:
                known = await find_known_tickets(connection, [one.ticket for one in unfit])
        except (FAILED, *UNAVAILABLE) as error:
            logger.warning("bad tickets could not be counted: %s", type(error).__name__)
            return
        for one in unfit:
            if one.ticket not in known:
                self._lockouts.count_failure(one.ip)
