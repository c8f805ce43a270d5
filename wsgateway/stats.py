"""What one gateway process says of itself every few seconds, for the operators' metrics.

The parts count what they do; here it is put together. Counters count from the start of the
process; `_5m` are the last five minutes, and so are the percentiles.
"""

from __future__ import annotations

import time
from typing import Any

from wsgateway.admission import AdmissionDesk
from wsgateway.connections import Connections
from wsgateway.fanout import Fanout
from wsgateway.listener import Listener
from wsgateway.session_watch import SessionWatch
from wsgateway.writer import Writer


def read_stats(
    *,
    connections: Connections,
    fanout: Fanout,
    writer: Writer,
    desk: AdmissionDesk,
    watch: SessionWatch,
    listener: Listener,
) -> dict[str, Any]:
    now = time.monotonic()
    flush_p50, flush_p95, flush_p99 = writer.flush_ms.percentiles((50, 95, 99), now)
    [revocation_p99] = watch.revocation_ms.percentiles((99,), now)
    return {
        "connections": len(connections),
        "subscriptions": fanout.subscription_count,
        "messages_in": writer.submitted,
        "deliveries": fanout.deliveries,
        "slow_consumers_closed": connections.slow_consumers_closed,
        "flush_ms_p50": _rounded(flush_p50),
        "flush_ms_p95": _rounded(flush_p95),
        "flush_ms_p99": _rounded(flush_p99),
        "revocation_ms_p99": _rounded(revocation_p99),
        "rate_limited_5m": writer.rate_limited.total(now),
        "tickets_refused_5m": desk.refused.total(now),
        "listener_lag_ms": _rounded(listener.lag_seconds * 1000),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
