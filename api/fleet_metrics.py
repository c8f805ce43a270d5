"""What the operators see of the whole fleet, from any instance: one object, section by section."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from psycopg import Connection

from api.kept import Kept
from api.resources.ops.drains import drain_object
from db import audit, metrics
from db.connections import SyncPool, probe
from db.drains import Drain, list_drains
from db.metrics import Activity, Gateway, SessionsOfVersion
from db.releases import find_policy
from db.security_events import Event
from rules.times import rfc3339
from rules.versions import ReleasePolicy

T = TypeVar("T")

# What clients call their version is theirs to choose: the rest counts together.
MOST_VERSIONS = 50
# A gateway that was not heard of for so long does not count any more; see present_connections.
PRESENT_SECONDS = 15.0

# What each gateway says of itself (wsgateway/stats.py), shown as it is. One of an older release may
# not say all of it yet.
GATEWAY_COUNTS = (
    "connections",
    "subscriptions",
    "messages_in",
    "deliveries",
    "slow_consumers_closed",
)
GATEWAY_TIMES = ("flush_ms_p50", "flush_ms_p95", "flush_ms_p99", "revocation_ms_p99")

EVENTS = {
    "login_success": Event.LOGIN_SUCCESS,
    "login_failure": Event.LOGIN_FAIL,
    "lockouts": Event.LOGIN_LOCK,
    "refresh_reuse": Event.TOKEN_REUSE,
    "rate_limited": Event.RATE_LIMITED,
    "access_refused": Event.ACCESS_REFUSED,
}


class FleetMetrics:
    def __init__(self, pool: SyncPool) -> None:
        self._pool = pool
        self._sessions = Kept(lambda: self._read(metrics.count_live_sessions))
        self._activity = Kept(lambda: self._read(metrics.read_activity))
        self._drains = Kept(lambda: self._read(_newest_drains))

    def read(self) -> dict[str, Any]:
        sessions, activity = self._sessions.get(), self._activity.get()
        # The probe has a connection to itself: what it waits for is what a request waits for.
        started = time.monotonic()
        self._read(probe)
        probe_ms = (time.monotonic() - started) * 1000
        with self._pool.connection() as connection:
            gateways = metrics.list_gateways(connection)
            head = audit.find_head(connection)
            policy = find_policy(connection).policy
            now = metrics.read_clock(connection)
        present = [one for one in gateways if one.heartbeat_age_seconds <= PRESENT_SECONDS]
        return {
            "generated_at": rfc3339(now),
            "release_policy": _policy(policy),
            "sessions": _sessions(sessions),
            "auth": _auth(activity),
            "tickets": {
                "issued": activity.tickets_issued,
                "consumed": activity.tickets_consumed,
                "refused": _sum(present, "tickets_refused_5m"),
            },
            "chat": {
                "messages_5m": activity.messages,
                "rate_limited_5m": _sum(present, "rate_limited_5m"),
                "lockouts_active": activity.chat_lockouts,
            },
            "gateways": [_gateway(gateway) for gateway in gateways],
            "drains": _drains(self._drains.get()),
            "audit": {"head_id": head.id, "head_hash": head.hash.hex()},
            "runtime_health": {
                "db_probe_ms": round(probe_ms, 2),
                "listener_lag_ms": _worst(present, "listener_lag_ms"),
                "pool_waiting": self._pool.get_stats().get("requests_waiting", 0),
            },
        }

    def _read(self, read: Callable[[Connection], T]) -> T:
        with self._pool.connection() as connection:
            return read(connection)


def _policy(policy: ReleasePolicy) -> dict[str, Any]:
    return {
        "latest_version": policy.latest_version,
        "min_supported_version": policy.min_supported_version,
        "latest_content_version": policy.latest_content_version,
        "min_supported_content_version": policy.min_supported_content_version,
        "enforce_after": rfc3339(policy.enforce_after) if policy.enforce_after else None,
        "update_url": policy.update_url,
    }


def _sessions(counts: list[SessionsOfVersion]) -> dict[str, Any]:
    by_version: dict[str, int] = {}
    for count in counts:
        name = count.version or "unknown"
        if name not in by_version and len(by_version) >= MOST_VERSIONS:
            name = "other"
        by_version[name] = by_version.get(name, 0) + count.live
    return {
        "live": sum(count.live for count in counts),
        "draining": sum(count.draining for count in counts),
        "by_client_version": by_version,
    }


def _auth(activity: Activity) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for name, event in EVENTS.items():
        count = activity.events.get(event)
        numbers[f"{name}_5m"] = count.of_5m if count else 0
        numbers[f"{name}_1h"] = count.of_1h if count else 0
    return {**numbers, "lockouts_active": activity.auth_lockouts}


def _newest_drains(connection: Connection) -> list[Drain]:
    """There is one active drain at the most, and it is the newest."""
    return list_drains(connection, before_id=None, limit=2)


def _drains(newest: list[Drain]) -> dict[str, Any]:
    """`last` is the newest one that is over."""
    active = [drain_object(drain) for drain in newest if drain.status == "draining"]
    over = [drain_object(drain) for drain in newest if drain.status != "draining"]
    return {"active": next(iter(active), None), "last": next(iter(over), None)}


def _gateway(gateway: Gateway) -> dict[str, Any]:
    return {
        "instance": gateway.instance,
        **{name: gateway.stats.get(name, 0) for name in GATEWAY_COUNTS},
        **{name: gateway.stats.get(name) for name in GATEWAY_TIMES},
        "heartbeat_age_seconds": round(gateway.heartbeat_age_seconds, 2),
    }


def _sum(gateways: list[Gateway], name: str) -> int:
    return sum(gateway.stats.get(name, 0) for gateway in gateways)


def _worst(gateways: list[Gateway], name: str) -> float | None:
    values = [value for gateway in gateways if (value := gateway.stats.get(name)) is not None]
    return max(values, default=None)
