"""What a caller of the library has to deal with.

Exception
├── ApiError      an HTTP call was refused; `code` is what to decide by
├── SendRefused   the server will not take this message, or not let us read this channel
└── LiveEnded     the live connection ended for good: a person must act

Where nobody answers at all, a call raises OSError (TimeoutError is one); the live connection then
comes back by itself.
"""

from __future__ import annotations

from typing import Any

UNEXPECTED_ANSWER = "unexpected_answer"


class ApiError(Exception):
    def __init__(self, status: int, code: str, message: str, details: dict[str, Any]) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        super().__init__(f"{code}: {message}")

    @property
    def retry_after_seconds(self) -> float | None:
        """How long the server wants us to wait, where waiting helps."""
        value = self.details.get("retry_after_seconds")
        return float(value) if isinstance(value, (int, float)) else None

    @property
    def is_temporary(self) -> bool:
        """Whether the same call may succeed later without anybody doing anything.

        An answer that is not Gatehouse's comes from something in between: a proxy whose server is
        away, the login page of a hotel.
        """
        return self.status >= 500 or self.status == 429 or self.code == UNEXPECTED_ANSWER


class SendRefused(Exception):
    """`code` is muted, rate_limited, conflict, not_found, validation_failed, too_big ..."""

    def __init__(self, code: str, message: str, retry_after_seconds: float | None = None) -> None:
        self.code = code
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"{code}: {message}")


class LiveEnded(Exception):
    """`code` is the close code where there was one, `reason` says what happened."""

    def __init__(self, code: int | None, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{reason} ({code})" if code else reason)
