"""What a caller of the library has to deal with.

Exception
├── ApiError      an HTTP call was refused; `code` is what to decide by
├── SendRefused   the server will not take this message
└── LiveEnded     the live connection ended for good: a person must act
"""

from __future__ import annotations

from typing import Any


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


class SendRefused(Exception):
    """`code` is muted, rate_limited, conflict, not_found, validation_failed ..."""

    def __init__(self, code: str, message: str, retry_after_seconds: float | None) -> None:
        self.code = code
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"{code}: {message}")


class LiveEnded(Exception):
    """`code` is the close code where there was one, `reason` says what the person must do about."""

    def __init__(self, code: int | None, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{reason} ({code})" if code else reason)
