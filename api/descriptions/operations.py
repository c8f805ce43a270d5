"""Every operation of the HTTP service: one row a method of a route in api/app.py.

A row says what only this operation has. What many share (a bearer, a body, the database, the
server's own refusals) is a property of the row, from which `Operation.codes` derives the codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from api import ops_acts
from api.descriptions import metrics
from api.descriptions.schemas import (
    BOOLEAN,
    VERSION_PATTERN,
    WEB_ADDRESS_PATTERN,
    Schema,
    closed,
    list_of,
    nullable,
    ref,
    text,
)
from api.resources.members import MOST_MEMBERS
from api.resources.messages import DEFAULT_PAGE
from api.resources.people import MOST_PEOPLE
from rules.fields import (
    DRAIN_SCOPES,
    GRACE_MAX_SECONDS,
    MAX_ID,
    NOTES_MAX_CHARS,
    REASON_MAX_CHARS,
    WEB_ADDRESS_MAX_CHARS,
)
from rules.settings import Settings

# Whatever is called: what is no HTTP or too much of it, a body that is no JSON, and our mistakes.
ANYWHERE = frozenset(
    {
        "invalid_request",
        "payload_too_large",
        "unsupported_media_type",
        "headers_too_large",
        "internal_error",
    }
)
WITH_BEARER = frozenset({"unauthorized", "token_expired", "session_revoked", "drained"})
WITH_BODY = frozenset({"malformed_json", "validation_failed"})
# What no path or no method of a path leads to an operation answers.
OUTSIDE = frozenset({"not_found", "method_not_allowed"})


@dataclass(frozen=True, slots=True)
class Operation:
    """`answers`: status -> schema name, or None for an answer without a body.

    `body` is a schema name; an operation without one takes no body, or, where `empty_body` says so,
    the {} that many clients send with every POST; with both the body may be left out. A bearer
    passes the release gate unless the operation is `ungated`.
    """

    method: str
    path: str
    name: str
    summary: str
    answers: Mapping[int, str | None]
    tag: str
    body: str | None = None
    empty_body: bool = False
    public: bool = False
    operator: bool = False
    database: bool = True
    versions: bool = False
    ungated: bool = False
    query: tuple[str, ...] = ()
    errors: frozenset[str] = field(default_factory=frozenset)

    @property
    def takes_versions(self) -> bool:
        return self.versions or "update_required" in self.codes

    @property
    def codes(self) -> frozenset[str]:
        """Every error code that it answers."""
        codes = ANYWHERE | self.errors
        if self.operator:
            codes |= {"unauthorized", "rate_limited", "not_found"}
        elif not self.public:
            codes |= WITH_BEARER if self.ungated else WITH_BEARER | {"update_required"}
        if self.body or self.empty_body:
            codes |= WITH_BODY
        if self.query:
            codes |= {"validation_failed"}
        if self.database:
            codes |= {"unavailable"}
        return codes


OPERATIONS = (
    Operation(
        "GET", "/health/live", "isAlive", "The process answers.",
        {200: "Health"}, "health", public=True, database=False,
    ),
    Operation(
        "GET", "/health/ready", "isReady", "The process and its database answer.",
        {200: "Health"}, "health", public=True,
    ),
    Operation(
        "GET", "/openapi.json", "describeHttp", "This document.",
        {200: "Document"}, "descriptions", public=True, database=False,
    ),
    Operation(
        "GET", "/asyncapi.json", "describeSocket", "The socket's description, AsyncAPI 3.0.",
        {200: "Document"}, "descriptions", public=True, database=False,
    ),
    Operation(
        "POST", "/auth/register", "register", "A new account, and its first session.",
        {201: "SessionAnswer"}, "auth", public=True, body="Registration", versions=True,
        errors=frozenset({"email_taken", "rate_limited", "update_required"}),
    ),
    Operation(
        "POST", "/auth/login", "login",
        "A session for an e-mail and a password. Unknown, wrong and disabled are answered alike.",
        {200: "SessionAnswer"}, "auth", public=True, body="Login", versions=True,
        errors=frozenset({"invalid_credentials", "rate_limited", "update_required"}),
    ),
    Operation(
        "POST", "/auth/refresh", "refresh",
        "Spends a refresh token for its successor. Within the grace a repeat gives the same one;"
        " any other use of a spent token ends the session. After a drain the token opens a new"
        " session, for a client that is up to date.",
        {200: "SessionAnswer"}, "auth", public=True, body="Refresh", versions=True,
        errors=frozenset(
            {
                "refresh_token_invalid", "refresh_token_reused", "session_revoked", "drained",
                "rate_limited", "update_required",
            }
        ),
    ),
    Operation(
        "POST", "/auth/logout", "logout", "Ends the bearer's session and its sockets.",
        {204: None}, "auth", empty_body=True, ungated=True,
    ),
    Operation(
        "POST", "/auth/password", "changePassword",
        "A new password; the user's other sessions end.",
        {204: None}, "auth", body="PasswordChange",
        errors=frozenset({"invalid_credentials", "conflict", "rate_limited"}),
    ),
    Operation(
        "GET", "/auth/me", "getMe", "The user, this session, and whether to update.",
        {200: "Me"}, "auth",
    ),
    Operation(
        "PATCH", "/auth/me", "updateMe", "Changes the display name.",
        {200: "Me"}, "auth", body="MeChange",
    ),
    Operation(
        "GET", "/auth/sessions", "listSessions", "The user's live sessions, newest first.",
        {200: "Sessions"}, "auth",
    ),
    Operation(
        "DELETE", "/auth/sessions", "endOtherSessions", "Ends all of the user's sessions but this.",
        {204: None}, "auth", ungated=True,
    ),
    Operation(
        "DELETE", "/auth/sessions/{session_id}", "endSession", "Ends one of the user's sessions.",
        {204: None}, "auth", ungated=True, errors=frozenset({"not_found"}),
    ),
    Operation(
        "POST", "/auth/ws-ticket", "issueTicket",
        "A ticket for one socket, once. Offer both subprotocols of the answer.",
        {201: "Ticket"}, "auth", empty_body=True,
        errors=frozenset({"rate_limited"}),
    ),
    Operation(
        "GET", "/chat/channels", "listChannels", "The channels that the user may read.",
        {200: "Channels"}, "chat",
    ),
    Operation(
        "POST", "/chat/channels", "createGroup", "A new group, its creator the owner.",
        {201: "Channel"}, "chat", body="NewGroup", errors=frozenset({"rate_limited"}),
    ),
    Operation(
        "POST", "/chat/channels/direct", "openDirect",
        "The one channel with somebody: new (201), or the one that there is (200).",
        {200: "Channel", 201: "Channel"}, "chat", body="Somebody",
        errors=frozenset({"not_found", "rate_limited"}),
    ),
    Operation(
        "GET", "/chat/channels/{channel_id}/members", "listMembers",
        "Who is in it, the longest-standing first; nobody is listed for a channel of everybody.",
        {200: "Members"}, "chat", errors=frozenset({"not_found"}),
    ),
    Operation(
        "POST", "/chat/channels/{channel_id}/members", "addMember",
        "The owner of a group takes somebody in (201); 200 for who is in it already.",
        {200: "Member", 201: "Member"}, "chat", body="Somebody",
        errors=frozenset({"not_found", "forbidden", "conflict"}),
    ),
    Operation(
        "DELETE", "/chat/channels/{channel_id}/members/{user_id}", "removeMember",
        "The owner takes somebody out, or a member leaves; live delivery ends at once.",
        {204: None}, "chat", errors=frozenset({"not_found", "forbidden"}),
    ),
    Operation(
        "GET", "/chat/channels/{channel_id}/messages", "listMessages",
        "A page of the log, ascending: after a seq, before a seq (not both), or the newest.",
        {200: "History"}, "chat", query=("after_seq", "before_seq", "limit"),
        errors=frozenset({"not_found"}),
    ),
    Operation(
        "POST", "/chat/channels/{channel_id}/messages", "sendMessage",
        "Stores a message; answered after the commit. A repeat (200) gives the first one's seq.",
        {200: "Stored", 201: "Stored"}, "chat", body="NewMessage",
        errors=frozenset({"not_found", "conflict", "muted", "rate_limited"}),
    ),
    Operation(
        "DELETE", "/chat/channels/{channel_id}/messages/{seq}", "eraseMessage",
        "Its sender or the channel's owner erases a message; the log says so.",
        {204: None}, "chat", errors=frozenset({"not_found", "forbidden"}),
    ),
    Operation(
        "GET", "/users", "findPeople", "Who is called exactly this, the longest-standing first.",
        {200: "People"}, "chat", query=("display_name",), errors=frozenset({"rate_limited"}),
    ),
    Operation(
        "GET", "/users/{user_id}", "getPerson", "Somebody to write to.",
        {200: "Person"}, "chat", errors=frozenset({"not_found", "rate_limited"}),
    ),
    Operation(
        "GET", "/release/summary", "summariseRelease",
        "Whether there is a newer version for the client that asks, and whether it must be.",
        {200: "ReleaseSummary"}, "release", public=True, versions=True,
    ),
    Operation(
        "POST", "/auth/password-reset", "resetPassword",
        "A new password for an operator's one-time token; all sessions end.",
        {204: None}, "auth", public=True, body="PasswordReset",
        errors=frozenset({"invalid_credentials", "rate_limited"}),
    ),
    Operation(
        "GET", "/ops/release/status", "getRelease",
        "What is in force, the live sessions below its minima, and the newest of the history.",
        {200: "ReleaseStatus"}, "ops", operator=True,
    ),
    Operation(
        "POST", "/ops/release/activate", "activateRelease",
        "Puts a release in force. What is left out stays as it is, the notes excepted.",
        {200: "ReleaseOutcome"}, "ops", operator=True, body="NewRelease",
        errors=frozenset({"conflict", "drain_in_progress"}),
    ),
    Operation(
        "POST", "/ops/release/rollback", "rollBackRelease",
        "Puts in force what was so before the present release.",
        {200: "ReleaseOutcome"}, "ops", operator=True, body="Rollback", empty_body=True,
        errors=frozenset({"conflict"}),
    ),
    Operation(
        "POST", "/ops/drains", "startDrain",
        "Everybody out in good order at a deadline, without a release.",
        {201: "Drain"}, "ops", operator=True, body="NewDrain",
        errors=frozenset({"drain_in_progress"}),
    ),
    Operation(
        "GET", "/ops/drains", "listDrains", "Drains, newest first, and how far they are.",
        {200: "Drains"}, "ops", operator=True, query=("before_id", "limit"),
    ),
    Operation(
        "GET", "/ops/drains/{drain_id}", "getDrain",
        "A drain with the receipts of its sessions, by id; `after_id` is the last one seen.",
        {200: "DrainWithReceipts"}, "ops", operator=True, query=("after_id", "limit"),
    ),
    Operation(
        "POST", "/ops/drains/{drain_id}/cancel", "cancelDrain",
        "Calls a drain off, before its deadline only.",
        {200: "Drain"}, "ops", operator=True, body="DrainCancellation", empty_body=True,
        errors=frozenset({"conflict"}),
    ),
    Operation(
        "GET", "/ops/sessions", "listAllSessions", "Live sessions, newest first.",
        {200: "OpsSessions"}, "ops", operator=True,
        query=("user_id", "ip", "before_id", "limit"),
    ),
    Operation(
        "POST", "/ops/sessions/revoke", "revokeSessions",
        "Ends the sessions that exactly one selector names, and their sockets.",
        {200: "Revoked"}, "ops", operator=True, body="Revocation",
    ),
    Operation(
        "GET", "/ops/users", "findUsers",
        "Who it is: by e-mail address, or by an address or network of their sessions; then with the"
        " lockouts of the addresses in it, an IPv6 one with its /64.",
        {200: "OpsUsers"}, "ops", operator=True, query=("email", "ip"),
    ),
    *(
        Operation(
            "POST", f"/ops/users/{{user_id}}/{act}", name, summary,
            {200: answer}, "ops", operator=True, body=body,
        )
        for act, name, summary, body, answer in (
            ("disable", "disableUser", "No session lives while it lasts.", "Reason", "UserAct"),
            (
                "enable", "enableUser", "May log in again; old sessions stay ended.",
                "Reason", "UserAct",
            ),
            ("unlock", "unlockUser", "Forgets failed logins and lockouts.", "Reason", "UserAct"),
            ("mute", "muteUser", "Writes nothing for so long; 0 ends it.", "Mute", "Muted"),
            (
                "password-reset", "startPasswordReset",
                "The old password is dead at once; the answer's token sets a new one.",
                "Reason", "ResetToken",
            ),
        )
    ),
    Operation(
        "DELETE", "/ops/channels/{channel_id}/messages/{seq}", "eraseAnyMessage",
        "Erases a message of any channel; the log says so, and names nobody.",
        {204: None}, "ops", operator=True, query=("reason",),
    ),
    Operation(
        "GET", "/ops/audit", "listAudit", "The audit trail, newest first.",
        {200: "Audit"}, "ops", operator=True,
        query=("before_id", "request_id", "actor", "action", "user_id", "since", "limit"),
    ),
    Operation(
        "GET", "/ops/audit/verify", "verifyAudit",
        "Whether the chain is unbroken, from its beginning or after a row, up to to_id.",
        {200: "AuditVerification"}, "ops", operator=True, query=("after_id",),
    ),
    Operation(
        "GET", "/ops/release/metrics", "readMetrics",
        "The whole fleet, from any instance; neither audited nor an event.",
        {200: "Metrics"}, "ops", operator=True,
    ),
    Operation(
        "GET", "/ops/metrics", "readMetricsForPrometheus",
        "The same numbers in Prometheus's text format, version 0.0.4.",
        {200: "Exposition"}, "ops", operator=True,
    ),
    Operation(
        "GET", "/ops/security-events", "listSecurityEvents", "Security events, newest first.",
        {200: "SecurityEvents"}, "ops", operator=True,
        query=("before_id", "request_id", "event", "user_id", "since", "limit"),
    ),
)  # fmt: skip


SHORT_TEXT = text(1, 128, pattern=r"^[^\u0000]*$")
# Answers that are no JSON.
TEXTS = frozenset({"Exposition"})
REQUIRED_PARAMETERS = frozenset({"display_name"})


def query_parameters(settings: Settings, *, operator: bool) -> dict[str, Schema]:
    largest = ops_acts.LARGEST_PAGE if operator else settings.chat.history_page_max
    default = ops_acts.DEFAULT_PAGE if operator else min(DEFAULT_PAGE, largest)
    return {
        "after_seq": {"type": "integer", "minimum": 0, "maximum": MAX_ID},
        "before_seq": {"type": "integer", "minimum": 0, "maximum": MAX_ID},
        "limit": {"type": "integer", "minimum": 1, "maximum": largest, "default": default},
        "display_name": ref("DisplayName"),
        "before_id": ref("Id"),
        "after_id": ref("Seq"),
        "user_id": ref("Id"),
        "since": {"type": "string", "format": "date-time"},
        "ip": {"type": "string", "format": "network"},
        "email": ref("Email"),
        "reason": ref("ReasonText"),
        **dict.fromkeys(("request_id", "actor", "action", "event"), SHORT_TEXT),
    }


_DRAIN: dict[str, Schema] = {
    "id": ref("Id"),
    "status": {"enum": ["draining", "completed", "cancelled"]},
    "reason": {"type": "string"},
    "release_id": nullable("Id"),
    "scope": {"enum": list(DRAIN_SCOPES)},
    "started_at": ref("Time"),
    "deadline": ref("Time"),
    "grace_seconds": ref("Seq"),
    **dict.fromkeys(("enrolled", "acked", "closed", "unreachable", "revoked"), ref("Seq")),
}
# Of a revocation: exactly one of them is given.
_SELECTORS: dict[str, Schema] = {
    "user_id": ref("Id"),
    "session_id": ref("Id"),
    "email": ref("Email"),
    "ip": {"type": "string", "format": "network"},
    "client_version_below": {"type": "string", "pattern": VERSION_PATTERN},
    "created_before": {"type": "string", "format": "date-time"},
    "all": {"const": True},
}


# Of whatever is or was in force.
_POLICY: dict[str, Schema] = {
    "latest_version": ref("Version"),
    "min_supported_version": ref("Version"),
    "latest_content_version": ref("Version"),
    "min_supported_content_version": ref("Version"),
    "enforce_after": nullable("Time"),
}


def bodies_and_answers(settings: Settings) -> dict[str, Schema]:
    """The schemas that only HTTP has, by the names in the rows above."""
    positive: Schema = {"type": "integer", "minimum": 1}
    shown: Schema = {"type": ["string", "null"]}
    version: Schema = {"type": "string", "pattern": VERSION_PATTERN}
    session: dict[str, Any] = {
        "id": ref("Id"),
        "created_at": ref("Time"),
        "last_seen_at": ref("Time"),
        "expires_at": ref("Time"),
        "ip": shown,
        "user_agent": {"type": ["string", "null"], "maxLength": 256},
        "client_version": {"type": ["string", "null"], "maxLength": 64},
        "client_content_version": {"type": ["string", "null"], "maxLength": 64},
    }
    return {
        "Health": closed({"status": {"const": "ok"}}),
        "Document": {"type": "object"},
        "NoFields": closed({}),
        "Registration": closed(
            {
                "email": ref("Email"),
                "password": ref("NewPassword"),
                "display_name": ref("DisplayName"),
            }
        ),
        "Login": closed({"email": ref("Email"), "password": ref("SubmittedPassword")}),
        "Refresh": closed({"refresh_token": ref("OpaqueToken")}),
        "PasswordChange": closed(
            {"current_password": ref("SubmittedPassword"), "new_password": ref("NewPassword")}
        ),
        "MeChange": closed({"display_name": ref("DisplayName")}),
        "NewMessage": closed({"client_msg_id": ref("ClientMsgId"), "content": ref("Content")}),
        "SessionAnswer": closed(
            {
                "access_token": {
                    "type": "string",
                    "pattern": r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){2}$",
                },
                "token_type": {"const": "Bearer"},
                "expires_in": positive | {"maximum": settings.auth.access_ttl_seconds},
                "refresh_token": ref("OpaqueToken"),
                "session_id": ref("Id"),
                "session_expires_at": ref("Time"),
                "user": ref("User"),
                "version_status": ref("VersionStatus"),
            }
        ),
        "Session": closed(session),
        "ListedSession": closed(session | {"current": BOOLEAN}),
        "Sessions": closed({"sessions": list_of("ListedSession")}),
        "Me": closed(
            {
                "user": ref("User"),
                "session": ref("Session"),
                "version_status": ref("VersionStatus"),
            }
        ),
        "Ticket": closed(
            {
                "ticket": ref("OpaqueToken"),
                "expires_at": ref("Time"),
                "websocket_url": {"type": "string", "pattern": "^wss?://"},
                "subprotocols": {
                    "type": "array",
                    "items": {"type": "string"},
                    "minItems": 2,
                    "maxItems": 2,
                },
            }
        ),
        "Channel": closed(
            {
                "id": ref("Id"),
                "kind": {"enum": ["global", "group", "direct"]},
                "name": shown,
                "created_at": ref("Time"),
                "last_seq": ref("Seq"),
                "role": {"enum": ["owner", "member", None]},
                "peer": nullable("Person"),
            }
        ),
        "ReasonText": text(
            1,
            REASON_MAX_CHARS,
            format="reason",
            pattern=r"^[^\u0000]*$",
            description="For the audit trail; not only white space.",
        ),
        "PasswordReset": closed(
            {"reset_token": {"type": "string"}, "new_password": ref("NewPassword")}
        ),
        "Revocation": closed(
            {**_SELECTORS, "reason": ref("ReasonText"), "dry_run": BOOLEAN},
            optional=(*_SELECTORS, "dry_run"),
        )
        | {"oneOf": [{"required": [name]} for name in _SELECTORS]},
        "Revoked": closed(
            {"matched": ref("Seq"), "revoked": ref("Seq"), "audit_id": nullable("Id")}
        ),
        "ReleaseSummary": closed(
            {"version_status": ref("VersionStatus"), "notes": shown, "update_url": shown}
        ),
        "NewRelease": closed(
            {
                "latest_version": version,
                "min_supported_version": version,
                "latest_content_version": version,
                "min_supported_content_version": version,
                "update_url": text(1, WEB_ADDRESS_MAX_CHARS, pattern=WEB_ADDRESS_PATTERN),
                "notes": text(1, NOTES_MAX_CHARS, pattern=r"^[^\u0000]*$"),
                "grace_seconds": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": GRACE_MAX_SECONDS,
                    "default": settings.drain.grace_seconds,
                },
                "drain": {"enum": ["outdated", "all", "none"]},
                "allow_regression": BOOLEAN,
                "dry_run": BOOLEAN,
            },
            optional=(
                "min_supported_version",
                "latest_content_version",
                "min_supported_content_version",
                "update_url",
                "notes",
                "grace_seconds",
                "allow_regression",
                "dry_run",
            ),
        ),
        "Rollback": closed(
            {"reason": ref("ReasonText"), "dry_run": BOOLEAN}, optional=("reason", "dry_run")
        ),
        "ReleasePolicy": closed(
            {
                "release_id": nullable("Id"),
                **_POLICY,
                "update_url": shown,
                "notes": shown,
                "activated_at": nullable("Time"),
            }
        ),
        "OutdatedSessions": closed(
            {"sessions": ref("Seq"), "by_version": list_of("SessionsOfVersion") | {"maxItems": 50}}
        ),
        "SessionsOfVersion": closed(
            {
                "client_version": ref("Version"),
                "client_content_version": ref("Version"),
                "sessions": ref("Seq"),
            }
        ),
        "ReleaseStatus": closed(
            {
                "release_policy": ref("ReleasePolicy"),
                "outdated": ref("OutdatedSessions"),
                "releases": list_of("ReleaseRecord"),
            }
        ),
        "ReleaseRecord": closed(
            {
                "id": ref("Id"),
                "created_at": ref("Time"),
                "action": {"enum": ["activate", "rollback"]},
                "actor": {"type": "string"},
                "reason": shown,
                "request_id": shown,
                "previous_id": nullable("Id"),
                "restored_id": nullable("Id"),
                "drain_id": nullable("Id"),
                **_POLICY,
                "notes": shown,
            }
        ),
        "ReleaseOutcome": closed(
            {
                "release_policy": ref("ReleasePolicy"),
                "drain_id": nullable("Id"),
                "enrolled": ref("Seq"),
                "outdated": ref("OutdatedSessions"),
                "audit_id": nullable("Id"),
            }
        ),
        "NewDrain": closed(
            {
                "reason": ref("ReasonText"),
                "scope": {"enum": list(DRAIN_SCOPES), "default": "all"},
                "grace_seconds": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": GRACE_MAX_SECONDS,
                    "default": settings.drain.grace_seconds,
                },
            },
            optional=("scope", "grace_seconds"),
        ),
        "DrainCancellation": closed({"reason": ref("ReasonText")}, optional=("reason",)),
        "Drain": closed(_DRAIN),
        "Drains": closed({"drains": list_of("Drain")}),
        "DrainWithReceipts": closed({**_DRAIN, "receipts": list_of("DrainReceipt")}),
        "DrainReceipt": closed(
            {
                "session_id": ref("Id"),
                "user_id": ref("Id"),
                "client_version": ref("Version"),
                "client_content_version": ref("Version"),
                "enrolled_at": ref("Time"),
                "notified_at": nullable("Time"),
                "acked_at": nullable("Time"),
                "closed_at": nullable("Time"),
                "revoked_at": nullable("Time"),
                "outcome": {"enum": ["acked", "closed", "unreachable", "cancelled", None]},
            }
        ),
        "OpsSession": closed(
            {
                "session_id": ref("Id"),
                "user_id": ref("Id"),
                "email": ref("Email"),
                "display_name": ref("DisplayName"),
                "created_at": ref("Time"),
                "last_seen_at": ref("Time"),
                "expires_at": ref("Time"),
                "ip": shown,
                "user_agent": shown,
                "client_version": shown,
                "client_content_version": shown,
                "drain_event_id": nullable("Id"),
            }
        ),
        "OpsSessions": closed({"sessions": list_of("OpsSession")}),
        "OpsUser": closed(
            {
                "id": ref("Id"),
                "email": ref("Email"),
                "display_name": ref("DisplayName"),
                "is_admin": BOOLEAN,
                "created_at": ref("Time"),
                "disabled_at": nullable("Time"),
                "muted_until": nullable("Time"),
                "sessions": list_of("OpsSession"),
                "lockouts": list_of("Lockout"),
                "events": list_of("SecurityEvent"),
            }
        ),
        "OpsUsers": closed(
            {"users": list_of("OpsUser"), "lockouts": list_of("Lockout")},
            optional=("lockouts",),  # of addresses: with ?ip=
        ),
        "Lockout": closed(
            {"subject": {"type": "string"}, "locked_until": ref("Time"), "lockouts": ref("Seq")}
        ),
        "Reason": closed({"reason": ref("ReasonText")}),
        "Mute": closed(
            {
                "reason": ref("ReasonText"),
                "seconds": {"type": "integer", "minimum": 0, "maximum": 31_622_400},
            },
            optional=("seconds",),
        ),
        "UserAct": closed({"user_id": ref("Id"), "audit_id": ref("Id")}),
        "Muted": closed(
            {"user_id": ref("Id"), "audit_id": ref("Id"), "muted_until": nullable("Time")}
        ),
        "ResetToken": closed(
            {
                "user_id": ref("Id"),
                "audit_id": ref("Id"),
                "reset_token": ref("OpaqueToken"),
                "expires_at": ref("Time"),
            }
        ),
        "Audit": closed({"audit": list_of("AuditRow")}),
        "AuditRow": closed(
            {
                "id": ref("Id"),
                "created_at": ref("Time"),
                "actor": {"type": "string"},
                "action": {"type": "string"},
                "request_id": shown,
                "ip": shown,
                "user_id": nullable("Id"),
                "reason": shown,
                "details": {"type": "object"},
                "hash": ref("Sha256"),
            }
        ),
        "Sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "AuditVerification": closed(
            {
                "intact": BOOLEAN,
                "rows": ref("Seq"),
                "to_id": ref("Seq"),
                "head_id": ref("Seq"),
                "head_hash": ref("Sha256"),
                "first_broken_id": nullable("Id"),
            }
        ),
        "SecurityEvents": closed({"security_events": list_of("SecurityEvent")}),
        "SecurityEvent": closed(
            {
                "id": ref("Id"),
                "created_at": ref("Time"),
                "event": {"type": "string"},
                "request_id": shown,
                "user_id": nullable("Id"),
                "session_id": nullable("Id"),
                "ip": shown,
                "details": {"type": "object"},
            }
        ),
        **metrics.schemas(),
        "Exposition": {"type": "string"},
        "NewGroup": closed({"name": ref("ChannelName")}),
        "Somebody": closed({"user_id": ref("Id")}),
        "Person": closed({"id": ref("Id"), "display_name": ref("DisplayName")}),
        "People": closed({"users": list_of("Person") | {"maxItems": MOST_PEOPLE}}),
        "Member": closed(
            {
                "user_id": ref("Id"),
                "display_name": ref("DisplayName"),
                "role": {"enum": ["owner", "member"]},
                "joined_at": ref("Time"),
            }
        ),
        "Members": closed({"members": list_of("Member") | {"maxItems": MOST_MEMBERS}}),
        "Channels": closed({"channels": list_of("Channel")}),
        "History": closed(
            {
                "entries": list_of("Entry") | {"maxItems": settings.chat.history_page_max},
                "first_seq": ref("Seq"),
                "last_seq": ref("Seq"),
            }
        ),
        "Stored": closed(
            {
                "channel_id": ref("Id"),
                "client_msg_id": ref("ClientMsgId"),
                "seq": ref("EntrySeq"),
                "created_at": ref("Time"),
                "duplicate": BOOLEAN,
            }
        ),
    }
