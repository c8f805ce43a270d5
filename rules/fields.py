"""The fields of requests and frames: types, lengths, forms. Each error names its field.

`Fields` walks one JSON object: every value is taken once, and what is left at the end is unknown
and refused, so a mistyped or smuggled field never passes silently.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID

from rules.client_address import Network, read_network
from rules.errors import Refusal, invalid_field
from rules.times import read_rfc3339
from rules.versions import readable_version

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

MAX_ID = 2**53 - 1  # every id stays exact in a JavaScript client
EMAIL_MAX_CHARS = 254  # RFC 5321, 4.5.3.1.3, less the angle brackets
DISPLAY_NAME_MAX_CHARS = 40
CHANNEL_NAME_MAX_CHARS = 80
REASON_MAX_CHARS = 500
NOTES_MAX_CHARS = 4000
WEB_ADDRESS_MAX_CHARS = 2000
DRAIN_SCOPES = ("outdated", "all")
GRACE_MAX_SECONDS = 7 * 86_400
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


def one_of(choices: type[E]) -> Callable[[str, Any], E]:
    """One of the values of an enumeration of strings."""

    def read(name: str, value: Any) -> E:
        try:
            return choices(text(name, value))
        except ValueError:
            raise invalid_field(name, f"must be one of {', '.join(choices)}") from None

    return read


def boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise invalid_field(name, "must be true or false")
    return value


def true(name: str, value: Any) -> bool:
    """A flag that selects: false would select nothing, and is refused rather than passed over."""
    if value is not True:
        raise invalid_field(name, "must be true where it is given")
    return True


def reason(name: str, value: Any) -> str:
    """Why an operator acts, for whoever reads the audit trail: 1 to 500 characters."""
    string = bounded_text(1, REASON_MAX_CHARS)(name, value)
    if not string.strip():
        raise invalid_field(name, "must not be only white space")
    return string


def version(name: str, value: Any) -> str:
    string = text(name, value)
    if readable_version(string) is None:
        raise invalid_field(name, "must be a version like 1.4.2")
    return string


# No white space, control or other character that would need quoting in a link.
_WEB_ADDRESS = re.compile(r"https?://[!#-;=?-Z\[\]_a-z~%]+")


def web_address(name: str, value: Any) -> str:
    """http or https: clients open it, so nothing that an app could be made to run."""
    string = bounded_text(1, WEB_ADDRESS_MAX_CHARS)(name, value)
    if not _WEB_ADDRESS.fullmatch(string):
        raise invalid_field(name, "must be an address like https://example.org/update")
    return string


def notes(name: str, value: Any) -> str:
    """What a release brings, for people to read: 1 to 4000 characters."""
    return bounded_text(1, NOTES_MAX_CHARS)(name, value)


def grace_seconds(name: str, value: Any) -> int:
    """0 to a week."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= GRACE_MAX_SECONDS:
        raise invalid_field(name, f"must be 0 to {GRACE_MAX_SECONDS}, a week of seconds")
    return value


def drain_scope(name: str, value: Any) -> str:
    """Whom a drain means: `outdated` clients, or `all`."""
    string = text(name, value)
    if string not in DRAIN_SCOPES:
        raise invalid_field(name, f"must be one of {', '.join(DRAIN_SCOPES)}")
    return string


def time(name: str, value: Any) -> datetime:
    moment = read_rfc3339(text(name, value))
    if moment is None:
        raise invalid_field(name, "must be a time like 2026-11-24T08:22:30Z")
    return moment


def network(name: str, value: Any) -> Network:
    """An address, or a network in CIDR form."""
    string = text(name, value)
    try:
        return read_network(string)
    except ValueError:
        raise invalid_field(name, "must be an address or a network like 198.51.100.0/24") from None


def seconds_to_mute(name: str, value: Any) -> int:
    """0 to a year."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 31_622_400:
        raise invalid_field(name, "must be 0 to 31622400, a year of seconds")
    return value
