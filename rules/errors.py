"""Every refusal a client can see: one table of code, HTTP status, close code and retry advice.

The API turns a `Refusal` into the envelope, the gateway into an `error` frame and, where the row
has a close code, into the end of the socket; neither invents a code of its own. What the public
message leaves out goes to the log under the same request id.

Close codes 4000 to 4499, 1012 and 1013 tell a client to come back with a new ticket and backoff;
4500 to 4999 tell it that a person must act; 1003, 1007, 1008 and 1009 that it must not send the
same again (RFC 6455, section 7.4.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Retry(StrEnum):
    """What a client may do with the same request."""

    AS_IS = "as_is"  # the same bytes may be sent again, with backoff
    AFTER_WAIT = "after_wait"  # after Retry-After or retry_after_seconds
    AFTER_REFRESH = "after_refresh"  # after POST /auth/refresh, or with a new ticket
    NEVER = "never"  # a person or a programmer must change something first


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One row: `status` is None where HTTP never answers it, `close` where a socket survives it."""

    code: str
    status: int | None
    close: int | None
    retry: Retry
    message: str

    @property
    def close_reason(self) -> str:
        """The word beside the close code; nearly always the code that the error frame has."""
        return _CLOSE_REASONS.get(self.code, self.code)


# One reason a close code, whichever of these was the cause.
_CLOSE_REASONS = {"internal_error": "internal", "unavailable": "at_capacity"}

_WAIT, _REFRESH, _NEVER = Retry.AFTER_WAIT, Retry.AFTER_REFRESH, Retry.NEVER

_ROWS = (
    # What a request can be answered with. A socket closes on those that have a close code.
    ErrorKind("invalid_request", 400, None, _NEVER, "The request could not be understood."),
    ErrorKind("malformed_json", 400, None, _NEVER, "This is not a valid JSON object in UTF-8."),
    ErrorKind("unauthorized", 401, None, _REFRESH, "Valid credentials are required."),
    ErrorKind("invalid_credentials", 401, None, _NEVER, "The e-mail or the password is wrong."),
    ErrorKind("token_expired", 401, None, _REFRESH, "The access token has expired."),
    ErrorKind("session_revoked", 401, 4501, _NEVER, "The session has ended. Log in again."),
    ErrorKind("refresh_token_invalid", 401, None, _NEVER, "The refresh token is not valid."),
    ErrorKind(
        "refresh_token_reused",
        401,
        None,
        _NEVER,
        "The refresh token was used before. The session was ended for safety; log in again.",
    ),
    ErrorKind("drained", 401, 4510, _REFRESH, "The session was drained. Update, then come back."),
    ErrorKind("forbidden", 403, None, _NEVER, "You may not do this."),
    ErrorKind("muted", 403, None, _WAIT, "You may not write at the moment."),
    ErrorKind("origin_not_allowed", 403, None, _NEVER, "This origin is not allowed."),
    ErrorKind("not_found", 404, None, _NEVER, "There is nothing here for you."),
    ErrorKind("method_not_allowed", 405, None, _NEVER, "The method is not allowed here."),
    ErrorKind("email_taken", 409, None, _NEVER, "An account with this e-mail exists already."),
    ErrorKind("conflict", 409, None, _NEVER, "This conflicts with what is stored."),
    ErrorKind("drain_in_progress", 409, None, _WAIT, "Another drain is in progress."),
    ErrorKind("payload_too_large", 413, 1009, _NEVER, "The body is too large."),
    ErrorKind(
        "unsupported_media_type", 415, None, _NEVER, "Send the body as application/json in UTF-8."
    ),
    ErrorKind("validation_failed", 422, None, _NEVER, "A field has a value that is not allowed."),
    ErrorKind("update_required", 426, 4526, _NEVER, "This version of the app must be updated."),
    ErrorKind("rate_limited", 429, 4429, _WAIT, "Too many requests. Wait, then try again."),
    ErrorKind("headers_too_large", 431, None, _NEVER, "The request headers are too large."),
    ErrorKind("internal_error", 500, 1011, Retry.AS_IS, "Something went wrong on our side."),
    ErrorKind("unavailable", 503, 1013, _WAIT, "The service is not available at the moment."),
    # What only a socket is told.
    ErrorKind("ticket_invalid", None, 4401, _REFRESH, "The ticket is not valid. Ask for another."),
    ErrorKind("slow_consumer", None, 4408, _REFRESH, "You read too slowly. Resume where you were."),
    ErrorKind("lifetime", None, 4440, _REFRESH, "The connection is old. Connect again."),
    ErrorKind("service_restart", None, 1012, _REFRESH, "The gateway restarts. Connect again."),
    ErrorKind("at_capacity", None, 1013, _WAIT, "The gateway is full or cannot check you now."),
    ErrorKind("account_disabled", None, 4503, _NEVER, "The account is disabled."),
    ErrorKind("replaced", None, 4509, _NEVER, "A newer connection took this one's place."),
    ErrorKind("unsupported_data", None, 1003, _NEVER, "Frames are JSON text, never binary."),
    ErrorKind("policy", None, 1008, _NEVER, "The first thing sent broke the protocol."),
)

KINDS: Mapping[str, ErrorKind] = {row.code: row for row in _ROWS}


class Refusal(Exception):
    """A request or frame that is refused with one of the codes above.

    `details` is shown to the client; `retry_after_seconds` becomes the Retry-After header as well.
    `cause` is for the log alone.
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        details: Mapping[str, Any] | None = None,
        retry_after_seconds: int | None = None,
        cause: str | None = None,
    ) -> None:
        self.kind = KINDS[code]
        self.message = message or self.kind.message
        self.details = dict(details or {})
        self.retry_after_seconds = retry_after_seconds
        if retry_after_seconds is not None:
            self.details["retry_after_seconds"] = retry_after_seconds
        self.cause = cause
        super().__init__(f"{code}: {cause or self.message}")

    @property
    def code(self) -> str:
        return self.kind.code


def invalid_field(field: str, problem: str) -> Refusal:
    """422 that names its field: `content must not be empty`, details {"field": "content"}."""
    return Refusal("validation_failed", f"{field} {problem}", details={"field": field})


def envelope(
    code: str, message: str, request_id: str, details: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The body of every error response."""
    return {
        "error": {
            "code": code,
            "message": message,
            "request_id": request_id,
            "details": dict(details or {}),
        }
    }
