"""Client versions and the release gate's view of them: dotted integers, compared part by part."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rules.times import rfc3339

# 18 digits are a date with its time and more, and fit into a bigint of Postgres.
_FORM = re.compile(r"\d{1,18}(\.\d{1,18}){0,7}")


def version_key(version: str | None) -> tuple[int, ...]:
    """Sorts like the versions do: 1.2 equals 1.2.0; missing or unreadable counts as 0."""
    if version is None or not _FORM.fullmatch(version) or not version.isascii():
        return ()
    parts = [int(part) for part in version.split(".")]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def readable_version(version: str | None) -> str | None:
    """The version as it is stored: None unless it can be compared."""
    if version is None or not _FORM.fullmatch(version) or not version.isascii():
        return None
    return version


@dataclass(frozen=True, slots=True)
class ReleasePolicy:
    """What the team has published last; None means that nothing is demanded or offered.

    The floors are the minima that were enforced already when the present ones were announced.
    """

    latest_version: str | None = None
    min_supported_version: str | None = None
    latest_content_version: str | None = None
    min_supported_content_version: str | None = None
    enforce_after: datetime | None = None
    update_url: str | None = None
    floor_version: str | None = None
    floor_content_version: str | None = None


def is_below_minimum(policy: ReleasePolicy, client: str | None, content: str | None) -> bool:
    """Whether this client must update, now or once the minima are enforced."""
    return _below(client, policy.min_supported_version) or _below(
        content, policy.min_supported_content_version
    )


def is_update_required(
    policy: ReleasePolicy, client: str | None, content: str | None, now: datetime
) -> bool:
    """Whether this client is served no more; 0011_release.sql says the same in SQL."""
    if _below(client, policy.floor_version) or _below(content, policy.floor_content_version):
        return True
    enforced = policy.enforce_after is not None and policy.enforce_after <= now
    return enforced and is_below_minimum(policy, client, content)


def version_status(
    policy: ReleasePolicy, client: str | None, content: str | None, now: datetime
) -> dict[str, Any]:
    """The `version_status` object of the contract for one client at `now`."""
    return {
        "client_version": readable_version(client),
        "latest_version": policy.latest_version,
        "min_supported_version": policy.min_supported_version,
        "client_content_version": readable_version(content),
        "latest_content_version": policy.latest_content_version,
        "min_supported_content_version": policy.min_supported_content_version,
        "enforce_after": rfc3339(policy.enforce_after) if policy.enforce_after else None,
        "update_available": _below(client, policy.latest_version)
        or _below(content, policy.latest_content_version),
        "update_required": is_update_required(policy, client, content, now),
        "update_url": policy.update_url,
    }


def _below(version: str | None, wanted: str | None) -> bool:
    return wanted is not None and version_key(version) < version_key(wanted)
