"""The id that leads from a request over its ticket to the socket, the log and the audit trail."""

from __future__ import annotations

import re
import secrets

_ACCEPTED = re.compile(r"[A-Za-z0-9._-]{8,64}")


def choose_request_id(proposed: str | None) -> str:
    """The client's own id where it has the accepted form, else a new one of 128 random bits."""
    if proposed is not None and _ACCEPTED.fullmatch(proposed):
        return proposed
    return secrets.token_hex(16)
