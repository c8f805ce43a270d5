"""What scripts/chat prints of what others wrote: never a character that acts on the terminal."""

from __future__ import annotations

import unicodedata
from typing import Any

_JOINERS = "\u200c\u200d"  # within words of some scripts, and within emoji
# Controls (Cc), format characters like those that turn the direction of text (Cf), and lines'
# ends by other names (Zl, Zp). What Unicode has not assigned yet is left to the terminal's font.
_ACTING = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})


def printable(text: str) -> str:
    """Other people's text must not move the cursor, change colours or hide itself."""
    return "".join(
        "\ufffd"
        if unicodedata.category(character) in _ACTING and character not in _JOINERS
        else character
        for character in text
    )


def columns(text: str) -> int:
    """How many columns a terminal gives to printable text."""
    return sum(map(_columns_of, text))


def tail(text: str, width: int) -> str:
    """The longest end of the text that fits into so many columns."""
    used = 0
    for position in range(len(text) - 1, -1, -1):
        used += _columns_of(text[position])
        if used > width:
            return text[position + 1 :]
    return text


def line_of(event: dict[str, Any]) -> str | None:
    """An event of the live connection, or an entry of the history, as a line."""
    kind = str(event["type"])
    match kind:
        case "message":
            name = event["sender_name"] or "somebody"
            text = "(erased)" if event["content"] is None else event["content"]
            line = f"{event['seq']:>5}  {name}: {text}"
        case "deleted":
            line = f"{event['seq']:>5}  * {event['target_seq']} was deleted"
        case "joined" | "left":
            line = f"{event['seq']:>5}  * user {event['user_id']} {kind}"
        case "offline":
            line = f"* offline: {event['reason']}; trying again in {event['seconds']:.1f} s"
        case "missed":
            line = f"* {event['first_seq']} to {event['last_seq']} are not kept any more"
        case "rewound":
            line = f"* the server was set back to {event['last_seq']}"
        case "error":
            line = f"* {event.get('message')}"
        case "drain_started" | "drain_warning":
            seconds = event["seconds_remaining"]
            line = f"* everybody must leave in {seconds:.0f} s, and may update: {event['reason']}"
        case "drain_cancelled":
            line = "* you may stay: nobody has to leave any more"
        case "update_available" | "update_required":
            line = _about_version(kind, event["version_status"])
        case "online" | "typing":
            return None
        case _:  # a revocation: the close that follows says the rest
            reason = event.get("reason")
            line = f"* {kind}: {reason}" if reason else f"* {kind}"
    return printable(line)


def _about_version(kind: str, status: dict[str, Any]) -> str:
    where = f" ({status['update_url']})" if status["update_url"] else ""
    if kind == "update_available":
        return f"* version {status['latest_version']} is out{where}"
    return f"* this version must be updated{where}"


def _columns_of(character: str) -> int:
    if unicodedata.combining(character) or character in _JOINERS:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
