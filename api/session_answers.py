"""How sessions and users look in responses."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from db.sessions import ClientInfo, LiveSession
from rules.access_tokens import AccessTokens
from rules.times import rfc3339
from rules.versions import ReleasePolicy, version_status


def user_object(user_id: int, email: str, display_name: str, is_admin: bool) -> dict[str, Any]:
    return {"id": user_id, "email": email, "display_name": display_name, "is_admin": is_admin}


def session_answer(
    access_tokens: AccessTokens,
    *,
    session_id: int,
    expires_at: datetime,
    now: datetime,
    refresh_token: str,
    user: dict[str, Any],
    client: ClientInfo,
    policy: ReleasePolicy,
) -> dict[str, Any]:
    """What register, login and refresh answer; `now` is the database's clock."""
    access_token = access_tokens.issue(
        user_id=user["id"], session_id=session_id, now=now.timestamp()
    )
    return {
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": access_tokens.ttl_seconds,
        "refresh_token": refresh_token,
        "session_id": session_id,
        "session_expires_at": rfc3339(expires_at),
        "user": user,
        "version_status": version_status(policy, client.version, client.content_version, now),
    }


def session_object(session: LiveSession) -> dict[str, Any]:
    return {
        "id": session.session_id,
        "created_at": rfc3339(session.created_at),
        "last_seen_at": rfc3339(session.last_seen_at),
        "expires_at": rfc3339(session.expires_at),
        "ip": str(session.ip) if session.ip else None,
        "user_agent": session.user_agent,
        "client_version": session.client_version,
        "client_content_version": session.client_content_version,
    }
