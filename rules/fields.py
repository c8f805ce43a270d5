"""The fields of requests and frames: types, lengths, forms. Each error names its field.

`Fields` walks one JSON object: every value is taken once, and what is left at the end is unknown
and refused, so a mistyped or smuggled field never passes silently.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from uuid import UUID

from rules.errors import Refusal, invalid_field

T = TypeVar("T")

MAX_ID = 2**53 - 1  # every id stays exact in a JavaScript client
EMAIL_MAX_CHARS = 254  # RFC 5321, 4.5.3.1.3, less the angle brackets
DISPLAY_NAME_MAX_CHARS = 40
CHANNEL_NAME_MAX_CHARS = 80
PASSWORD_MIN_CHARS, PASSWORD_MAX_CHARS = 8, 128


class Fields:
    """The members of one object, taken by name; `end()` refuses whatever nobody asked for."""

    def __init__(self, members: Mapping[str, Any]) -> None:
        self._left = dict(members)

    def required(self, name: str, read: Callable[[str, Any], T]) -> T:
        if name not in self._left:
            raise invalid_field(name, "is missing")
        return read(name, self._left.pop(name))

    def optional(self, name: str, read: Callable[[str, Any], T]) -> T | None:
        """None where the field is missing; an explicit null is a wrong type like any other."""
        if name not in self._left:
            return None
        return read(name, self._left.pop(name))

    def end(self) -> None:
        for name in sorted(self._left):
            shown = name[:64]
            raise Refusal(
                "validation_failed", f"{shown} is not a known field", details={"field": shown}
            )


def text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise invalid_field(name, "must be a string")
    return value


def bounded_text(shortest: int, longest: int) -> Callable[[str, Any], str]:
    def read(name: str, value: Any) -> str:
        string = text(name, value)
        if not shortest <= len(string) <= longest:
            raise invalid_field(name, f"must have {shortest} to {longest} characters")
        return string

    return read


def row_id(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_ID:
        raise invalid_field(name, "must be a positive integer")
    return value


def sequence_number(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_ID:
        raise invalid_field(name, "must be an integer, 0 or more")
    return value


def client_msg_id(name: str, value: Any) -> UUID:
    """A UUID in its canonical form: other spellings of one id would look like two messages."""
    string = text(name, value)
    try:
        parsed = UUID(string)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != string.lower():
        raise invalid_field(name, "must be a UUID like 8c6f0d8e-52a4-4b0e-9a3e-0d3a5c1f2b47")
    return parsed


def content(longest: int) -> Callable[[str, Any], str]:
    """Message text, kept exactly as sent: 1 to `longest` characters, not only white space."""

    def read(name: str, value: Any) -> str:
        string = bounded_text(1, longest)(name, value)
        if not string.strip():
            raise invalid_field(name, "must not be only white space")
        return string

    return read


def display_name(name: str, value: Any) -> str:
    """1 to 40 characters without control, format-override or line-breaking characters."""
    return _shown_name(name, value, DISPLAY_NAME_MAX_CHARS)


def channel_name(name: str, value: Any) -> str:
    """The same, up to 80."""
    return _shown_name(name, value, CHANNEL_NAME_MAX_CHARS)


def _shown_name(name: str, value: Any, longest: int) -> str:
    string = bounded_text(1, longest)(name, value)
    if any(_unseen(character) for character in string):
        raise invalid_field(name, "must not contain control characters")
    if not string.strip():
        raise invalid_field(name, "must not be only white space")
    return string


# Cc control, Zl and Zp line and paragraph separators, Cn and Co without an agreed meaning.
_UNSEEN = frozenset({"Cc", "Zl", "Zp", "Cn", "Co", "Cs"})
# They turn round the text that stands beside a name (UAX 9, 2.1 to 2.4); the other format
# characters join emoji and letters.
_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _unseen(character: str) -> bool:
    return character in _OVERRIDES or unicodedata.category(character) in _UNSEEN


def email(name: str, value: Any) -> str:
    """One @ with something on both sides, no spaces or controls; whether it exists is not asked."""
    string = bounded_text(3, EMAIL_MAX_CHARS)(name, value)
    # The key is checked, not the text alone: NFKC turns some characters into an @ or into many.
    key = email_key(string)
    local, _, domain = key.rpartition("@")
    unusable = any(c.isspace() or _unseen(c) for c in string + key)
    if not local or not domain or "@" in local or unusable or len(key) > EMAIL_MAX_CHARS:
        raise invalid_field(name, "must be an e-mail address")
    return string


def email_key(address: str) -> str:
    """What decides whether two addresses are one: NFKC and case folding, to a fixed point."""
    folded = unicodedata.normalize("NFKC", address).casefold()
    return unicodedata.normalize("NFKC", folded).casefold()


def new_password(name: str, value: Any) -> str:
    return bounded_text(PASSWORD_MIN_CHARS, PASSWORD_MAX_CHARS)(name, value)


def submitted_password(name: str, value: Any) -> str:
    """At login only the upper bound counts: a short one is simply wrong, not a special case."""
    return bounded_text(1, PASSWORD_MAX_CHARS)(name, value)
