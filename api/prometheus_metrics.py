"""The operators' metrics as families for Prometheus: the same numbers under other names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rules.prometheus import Family, Kind, Sample

_GAUGES = {
    "sessions": {
        "live": "Sessions that live now.",
        "draining": "Live sessions that take part in a drain.",
    },
    "tickets": {
        "issued": "Tickets issued in the last 5 minutes.",
        "consumed": "Tickets issued and spent in the last 5 minutes.",
        "refused": "Tickets refused by gateways in the last 5 minutes.",
    },
    "chat": {
        "messages_5m": "Messages stored in the last 5 minutes.",
        "rate_limited_5m": "Messages refused on sockets for their limits in the last 5 minutes.",
        "lockouts_active": "Accounts that are locked out of writing now.",
    },
    "runtime_health": {
        "db_probe_ms": "Milliseconds for a connection and a query, in the API that answers this.",
        "listener_lag_ms": "Milliseconds for a notification to the slowest gateway.",
        "pool_waiting": "Requests of the API that answers this that wait for a connection.",
    },
}
_OF_GATEWAYS = {
    "connections": (Kind.GAUGE, "Open sockets."),
    "subscriptions": (Kind.GAUGE, "Channels that sockets are subscribed to."),
    "messages_in": (Kind.COUNTER, "Messages that clients have sent."),
    "deliveries": (Kind.COUNTER, "Entries written to subscribers."),
    "slow_consumers_closed": (Kind.COUNTER, "Sockets closed because they did not read."),
    "heartbeat_age_seconds": (Kind.GAUGE, "Seconds since the gateway was last heard of."),
    "revocation_ms_p99": (
        Kind.GAUGE,
        "Milliseconds from the end of a session to that of its sockets, 99th percentile.",
    ),
}
_FLUSH = "Milliseconds for a batch of messages to be stored and delivered, of the last 5 minutes."


def families(numbers: Mapping[str, Any]) -> Iterator[Family]:
    """What api/fleet_metrics.py reads; a number that is not known has no sample."""
    for section, gauges in _GAUGES.items():
        for name, help_ in gauges.items():
            yield _gauge(f"{section}_{name}", help_, numbers[section][name])
    yield Family(
        "gatehouse_sessions_by_client_version",
        Kind.GAUGE,
        "Sessions that live now, by the version that their client last named.",
        tuple(
            Sample(count, {"client_version": version})
            for version, count in numbers["sessions"]["by_client_version"].items()
        ),
    )
    yield from _auth(numbers["auth"])
    yield from _gateways(numbers["gateways"])
    yield _gauge(
        "drain_active",
        "Whether a drain is under way.",
        0 if numbers["drains"]["active"] is None else 1,
    )
    yield Family(
        "gatehouse_audit_head_id",
        Kind.GAUGE,
        "The newest row of the audit trail; it never falls.",
        (Sample(numbers["audit"]["head_id"]),),
    )


def _gauge(name: str, help_: str, value: float | None) -> Family:
    samples = () if value is None else (Sample(value),)
    return Family(f"gatehouse_{name}", Kind.GAUGE, help_, samples)


def _auth(numbers: Mapping[str, int]) -> Iterator[Family]:
    yield _gauge(
        "auth_lockouts_active",
        "Addresses and accounts that are locked out of logging in now.",
        numbers["lockouts_active"],
    )
    yield Family(
        "gatehouse_auth_events",
        Kind.GAUGE,
        "Security events of the last 5 minutes and of the last hour.",
        tuple(
            Sample(count, {"event": name.rpartition("_")[0], "window": name.rpartition("_")[2]})
            for name, count in numbers.items()
            if name != "lockouts_active"
        ),
    )


def _gateways(gateways: list[Mapping[str, Any]]) -> Iterator[Family]:
    for name, (kind, help_) in _OF_GATEWAYS.items():
        total = "_total" if kind is Kind.COUNTER else ""
        yield Family(
            f"gatehouse_gateway_{name}{total}",
            kind,
            help_,
            tuple(
                Sample(gateway[name], {"instance": gateway["instance"]})
                for gateway in gateways
                if gateway[name] is not None
            ),
        )
    yield Family(
        "gatehouse_gateway_flush_ms",
        Kind.GAUGE,
        _FLUSH,
        tuple(
            Sample(value, {"instance": gateway["instance"], "percentile": percentile})
            for gateway in gateways
            for percentile in ("50", "95", "99")
            if (value := gateway[f"flush_ms_p{percentile}"]) is not None
        ),
    )
