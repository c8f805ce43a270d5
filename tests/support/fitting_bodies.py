"""For each operation a body that fits, to be sent as it is or spoilt."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

PASSWORD = "a horse of another colour"

BODIES: Mapping[str, dict[str, Any]] = {
    "POST /auth/register": {"email": "d@example.org", "password": PASSWORD, "display_name": "Dan"},
    "POST /auth/login": {"email": "a@example.org", "password": PASSWORD},
    "POST /auth/refresh": {"refresh_token": "A" * 43},
    "POST /auth/password": {"current_password": PASSWORD, "new_password": PASSWORD + "!"},
    "PATCH /auth/me": {"display_name": "Ann"},
    "POST /chat/channels": {"name": "Friends"},
    "POST /chat/channels/direct": {"user_id": 1},
    "POST /chat/channels/{channel_id}/members": {"user_id": 1},
    "POST /chat/channels/{channel_id}/messages": {
        "client_msg_id": str(uuid.UUID(int=1)),
        "content": "hi",
    },
    "POST /auth/password-reset": {"reset_token": "A" * 43, "new_password": PASSWORD},
    # In force already, or refused: whoever sends it shuts nobody out.
    "POST /ops/release/activate": {
        "latest_version": "1.0",
        "drain": "none",
        "dry_run": True,
    },
    # Without a release nobody is outdated, so nobody is sent out.
    "POST /ops/drains": {"reason": "incident 42", "scope": "outdated"},
    "POST /ops/drains/{drain_id}/cancel": {"reason": "incident 42"},
    "POST /ops/release/rollback": {"reason": "incident 42", "dry_run": True},
    "POST /ops/sessions/revoke": {"session_id": 2**50, "reason": "incident 42"},
    "POST /ops/users/{user_id}/disable": {"reason": "incident 42"},
    "POST /ops/users/{user_id}/enable": {"reason": "incident 42"},
    "POST /ops/users/{user_id}/unlock": {"reason": "incident 42"},
    "POST /ops/users/{user_id}/mute": {"reason": "incident 42", "seconds": 60},
    "POST /ops/users/{user_id}/password-reset": {"reason": "incident 42"},
}
# They take an empty one, or none.
EMPTY = ("POST /auth/logout", "POST /auth/ws-ticket")
