"""From a ticket to a connection: tickets that arrive together are spent in one statement."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from db.connections import CONFLICTED, UNAVAILABLE, AsyncPool
from db.tickets import Admission, redeem_tickets
from rules.errors import Refusal
from rules.opaque_tokens import is_token
from wsgateway.batching import Batcher

logger = logging.getLogger("gatehouse.gateway")

MAX_BATCH = 100
MAX_WAITING = 2_000
ATTEMPTS = 3


@dataclass(slots=True)
class _PendingAdmission:
    ticket: str
    outcome: asyncio.Future[Admission | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class AdmissionDesk:
    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool
        self._batcher = Batcher(self._redeem, max_batch=MAX_BATCH, max_waiting=MAX_WAITING)

    async def run(self) -> None:
        await self._batcher.run()

    async def admit(self, ticket: str | None) -> Admission:
        """Spends the ticket, or raises Refusal ticket_invalid, or at_capacity without spending.

        Missing, unknown, used and expired are one reason: a guesser learns nothing.
        """
        if ticket is None or not is_token(ticket):
            raise Refusal("ticket_invalid")
        pending = _PendingAdmission(ticket)
        if not self._batcher.submit(pending):
            raise Refusal("at_capacity")
        admission = await pending.outcome
        if admission is None:
            raise Refusal("ticket_invalid")
        return admission

    async def _redeem(self, batch: list[_PendingAdmission]) -> None:
        tickets = [pending.ticket for pending in batch]
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._pool.connection() as connection:
                    admissions = await redeem_tickets(connection, tickets)
                break
            except CONFLICTED:
                if attempt == ATTEMPTS:
                    self._fail(batch)
                    return
            except UNAVAILABLE as error:
                logger.warning("tickets cannot be checked: %s", type(error).__name__)
                self._fail(batch)
                return
            except Exception:
                logger.exception("tickets cannot be checked")
                self._fail(batch)
                return
        for pending, admission in zip(batch, admissions, strict=True):
            if not pending.outcome.done():  # its socket may have gone meanwhile
                pending.outcome.set_result(admission)

    def _fail(self, batch: list[_PendingAdmission]) -> None:
        for pending in batch:
            if not pending.outcome.done():
                pending.outcome.set_exception(Refusal("at_capacity"))
