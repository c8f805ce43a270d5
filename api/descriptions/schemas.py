"""JSON Schemas of what travels over HTTP and the socket alike.

Only keywords that OpenAPI 3.1 (JSON Schema 2020-12) and AsyncAPI 3.0 (draft 07) both know, and
patterns that ECMA 262 and Python read alike: no \\s, whose members differ, and no look-around.
"""

from __future__ import annotations

from typing import Any

from rules import fields
from rules.settings import Settings

Schema = dict[str, Any]

# What Python's str.isspace knows, which is what "not only white space" means here.
_SPACE = r"\t-\r\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# The part of "control characters" that a pattern can say; unassigned ones are refused as well.
_CONTROL = r"\u0000-\u001f\u007f-\u009f\u2028\u2029\ue000-\uf8ff"
# Characters that compatibility normalisation turns into an @.
_AT = r"@\ufe6b\uff20"

_EMAIL_PART = f"[^{_CONTROL}{_SPACE}{_AT}]+"
VERSION_PATTERN = r"^[0-9]{1,18}(\.[0-9]{1,18}){0,7}$"

# As rules/fields.py has it.
WEB_ADDRESS_PATTERN = r"^https?://[!#-;=?-Z\[\]_a-z~%]+$"


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def closed(properties: dict[str, Schema], *, optional: tuple[str, ...] = ()) -> Schema:
    """An object with these members and no others; all are there but the optional ones."""
    schema: Schema = {"type": "object", "additionalProperties": False}
    if properties:
        schema["properties"] = properties
    required = [name for name in properties if name not in optional]
    if required:
        schema["required"] = required
    return schema


def list_of(name: str) -> Schema:
    return {"type": "array", "items": ref(name)}


def nullable(name: str) -> Schema:
    return {"oneOf": [ref(name), {"type": "null"}]}


def text(shortest: int, longest: int, **more: Any) -> Schema:
    return {"type": "string", "minLength": shortest, "maxLength": longest} | more


BOOLEAN: Schema = {"type": "boolean"}
_NULLABLE_TEXT: Schema = {"type": ["string", "null"]}


def components(settings: Settings) -> dict[str, Schema]:
    """The shared schemas by name; `settings` gives the limits."""
    return {
        "Id": {"type": "integer", "minimum": 1, "maximum": fields.MAX_ID},
        "Seq": {
            "type": "integer",
            "minimum": 0,
            "maximum": fields.MAX_ID,
            "description": "A place in a channel's log. Entries begin at 1, without gaps.",
        },
        "EntrySeq": {"type": "integer", "minimum": 1, "maximum": fields.MAX_ID},
        "Time": {
            "type": "string",
            "format": "date-time",
            "pattern": r"^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9](:[0-5][0-9]){2}\.[0-9]{6}Z$",
            "description": "RFC 3339, UTC, microseconds: always of one length.",
        },
        "Version": {
            "type": ["string", "null"],
            "pattern": VERSION_PATTERN,
            "description": "Dotted integers, compared part by part. Unreadable ones are null.",
        },
        "Email": text(
            3,
            fields.EMAIL_MAX_CHARS,
            # Not "email": that is RFC 5321 to the letter, and more is accepted here.
            format="mail-address",
            pattern=f"^{_EMAIL_PART}@{_EMAIL_PART}$",
            description="Compared after NFKC and case folding; the folded form has the same limit"
            " of length and characters.",
        ),
        "DisplayName": _shown_name(fields.DISPLAY_NAME_MAX_CHARS),
        "ChannelName": _shown_name(fields.CHANNEL_NAME_MAX_CHARS),
        "SubmittedPassword": text(
            1, fields.PASSWORD_MAX_CHARS, format="password", pattern=r"^[^\u0000]*$"
        ),
        "NewPassword": text(
            fields.PASSWORD_MIN_CHARS,
            fields.PASSWORD_MAX_CHARS,
            format="password",
            pattern=r"^[^\u0000]*$",
            description="Taken as sent. The ten thousand commonest passwords are refused.",
        ),
        "OpaqueToken": {
            "type": "string",
            "pattern": "^[A-Za-z0-9_-]{43}$",
            "description": "256 random bits in base64url. A secret.",
        },
        "ClientMsgId": {
            "type": "string",
            "format": "uuid",
            "pattern": "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$",
            "description": "Chosen by the sender. The same id again is the same message.",
        },
        "Content": text(
            1,
            settings.chat.message_max_chars,
            format="message-content",
            pattern=rf"^[^\u0000]*[^\u0000{_SPACE}][^\u0000]*$",
            description="Kept exactly as sent; not only white space.",
        ),
        "User": closed(
            {
                "id": ref("Id"),
                "email": ref("Email"),
                "display_name": ref("DisplayName"),
                "is_admin": BOOLEAN,
            }
        ),
        "VersionStatus": closed(
            {
                "client_version": ref("Version"),
                "latest_version": ref("Version"),
                "min_supported_version": ref("Version"),
                "client_content_version": ref("Version"),
                "latest_content_version": ref("Version"),
                "min_supported_content_version": ref("Version"),
                "enforce_after": nullable("Time"),
                "update_available": BOOLEAN,
                "update_required": BOOLEAN,
                "update_url": _NULLABLE_TEXT,
            }
        ),
        "Entry": {"oneOf": [ref(name) for name in ENTRIES]},
        **ENTRIES,
    }


def _shown_name(longest: int) -> Schema:
    return text(
        1,
        longest,
        format="display-name",
        pattern=f"^[^{_CONTROL}]*[^{_CONTROL}{_SPACE}][^{_CONTROL}]*$",
        description="Not only white space; no control, separator, private or unassigned"
        " characters.",
    )


def _entry(kind: str, **members: Schema) -> Schema:
    common = {"channel_id": ref("Id"), "seq": ref("EntrySeq"), "created_at": ref("Time")}
    return closed({"type": {"const": kind}} | common | members)


# The entries of a channel's log: in its history and, as frames, on the socket.
ENTRIES: dict[str, Schema] = {
    "MessageEntry": _entry(
        "message",
        sender_id=ref("Id"),
        sender_name=_NULLABLE_TEXT,
        content=_NULLABLE_TEXT | {"description": "null once the message has been deleted."},
        client_msg_id=ref("ClientMsgId"),
    ),
    "DeletedEntry": _entry(
        "deleted",
        target_seq=ref("EntrySeq"),
        by_user_id=nullable("Id") | {"description": "null where an operator deleted it."},
    ),
    "JoinedEntry": _entry("joined", user_id=ref("Id")),
    "LeftEntry": _entry("left", user_id=ref("Id")),
}
