"""Our gateway, but everybody is let in: what an admission costs without its ticket.

python -m benchmarks.gateway_without_tickets, with the gateway's environment
"""

from __future__ import annotations

import itertools
import sys
from datetime import UTC, datetime

from db.tickets import Admission
from rules.client_address import Address
from wsgateway import gateway
from wsgateway.__main__ import main
from wsgateway.admission import AdmissionDesk
from wsgateway.presence import Presence

_ids = itertools.count(1)


class OpenDesk(AdmissionDesk):
    async def admit(self, ticket: str | None, address: Address | None) -> Admission:
        connection_id = next(_ids)
        return Admission(
            position=1,
            connection_id=connection_id,
            session_id=connection_id,
            user_id=1,
            display_name="Somebody",
            is_admin=False,
            request_id="benchmark",
            client_version=None,
            client_content_version=None,
            now=datetime.now(UTC),
        )


class Uncounted(Presence):
    def ended(self, connection_id: int) -> None:
        """Nothing was written down."""


if __name__ == "__main__":
    vars(gateway).update(AdmissionDesk=OpenDesk, Presence=Uncounted)
    sys.exit(main(sys.argv[1:]))
