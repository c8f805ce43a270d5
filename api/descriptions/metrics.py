"""The schemas of the operators' metrics, as api/fleet_metrics.py puts them together."""

from __future__ import annotations

from api.descriptions.schemas import Schema, closed, list_of, nullable, ref
from api.fleet_metrics import EVENTS, GATEWAY_COUNTS, GATEWAY_TIMES

_COUNT: Schema = {"type": "integer", "minimum": 0}
_MILLISECONDS: Schema = {"type": ["number", "null"], "minimum": 0}


def schemas() -> dict[str, Schema]:
    policy = {
        "latest_version": ref("Version"),
        "min_supported_version": ref("Version"),
        "latest_content_version": ref("Version"),
        "min_supported_content_version": ref("Version"),
        "enforce_after": nullable("Time"),
        "update_url": {"type": ["string", "null"]},
    }
    sessions = {
        "live": _COUNT,
        "draining": _COUNT,
        "by_client_version": {
            "type": "object",
            "additionalProperties": _COUNT,
            "description": "The commonest versions; `other` for the rest, `unknown` for what could"
            " not be read. Like auth, tickets and chat kept for twenty times as long as counting"
            " them took.",
        },
    }
    auth = {f"{name}_{window}": _COUNT for name in EVENTS for window in ("5m", "1h")}
    return {
        "Metrics": closed(
            {
                "generated_at": ref("Time"),
                "release_policy": closed(policy),
                "sessions": closed(sessions),
                "auth": closed({**auth, "lockouts_active": _COUNT}),
                "tickets": _of_five_minutes("issued", "consumed", "refused"),
                "chat": closed(
                    {"messages_5m": _COUNT, "rate_limited_5m": _COUNT, "lockouts_active": _COUNT}
                ),
                "gateways": list_of("GatewayMetrics"),
                "drains": closed({"active": nullable("Drain"), "last": nullable("Drain")}),
                "audit": closed({"head_id": ref("Seq"), "head_hash": ref("Sha256")}),
                "runtime_health": closed(
                    {
                        "db_probe_ms": {"type": "number", "minimum": 0},
                        "listener_lag_ms": _MILLISECONDS
                        | {"description": "Of the slowest gateway; null where there is none."},
                        "pool_waiting": _COUNT,
                    }
                ),
            }
        ),
        "GatewayMetrics": closed(
            {
                "instance": {"type": "string"},
                **dict.fromkeys(GATEWAY_COUNTS, _COUNT),
                **dict.fromkeys(GATEWAY_TIMES, _MILLISECONDS),
                "heartbeat_age_seconds": {"type": "number"},
            }
        ),
    }


def _of_five_minutes(*names: str) -> Schema:
    schema = closed(dict.fromkeys(names, _COUNT))
    return {**schema, "description": "Of the last five minutes."}
