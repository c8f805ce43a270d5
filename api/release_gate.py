"""The release gate: a client below the minimum is refused, once the minimum is enforced.

Bearers pass it in api/middleware/release_gate.py. What creates or renews a session passes it in its
own transaction, under the policy that it holds, so that a login in flight is decided by one policy.
Admins are exempt: somebody must be able to look at what has gone wrong.
"""

from __future__ import annotations

from datetime import datetime

from db.releases import PolicyNow
from db.sessions import ClientInfo
from rules.errors import Refusal
from rules.versions import ReleasePolicy, is_update_required, version_status


def refuse_outdated(held: PolicyNow, client: ClientInfo, *, is_admin: bool) -> None:
    """Raises update_required, with the client's version_status, where it is served no more."""
    refusal = refusal_of_outdated(held.policy, held.now, client, is_admin=is_admin)
    if refusal is not None:
        raise refusal


def refusal_of_outdated(
    policy: ReleasePolicy, now: datetime, client: ClientInfo, *, is_admin: bool
) -> Refusal | None:
    if is_admin or not is_update_required(policy, client.version, client.content_version, now):
        return None
    status = version_status(policy, client.version, client.content_version, now)
    return Refusal("update_required", details={"version_status": status})
