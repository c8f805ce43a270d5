"""How times are written for clients: RFC 3339, UTC, microseconds."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """2026-11-24T08:22:30.123456Z; always of one length, so that strings sort like times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
