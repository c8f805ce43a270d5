"""What the end of a socket asks of a client.

4000 to 4499 come back; 4500 to 4999 a person must act. Of the codes of RFC 6455, section 7.4.1,
four say that what was sent was wrong, and all others come back; so does a connection that simply
broke (1006, or no code at all).
"""

from __future__ import annotations

from enum import Enum


class Advice(Enum):
    COME_BACK = "come back with a new ticket, after a pause"
    SEND_SOMETHING_ELSE = "come back, but do not send the same again"
    ASK_A_PERSON = "somebody must log in again, update, or close another tab"


# What was wrong with what we sent.
SENT_WRONG = {1003: "unsupported_data", 1007: "bad_utf8", 1008: "policy", 1009: "too_big"}


def advice_on(code: int | None) -> Advice:
    """`code` is None or 1006 where the connection simply broke."""
    if code is not None and 4500 <= code <= 4999:
        return Advice.ASK_A_PERSON
    if code in SENT_WRONG:
        return Advice.SEND_SOMETHING_ELSE
    return Advice.COME_BACK
