"""What the end of a socket asks of a client: come back, or tell a person."""

from __future__ import annotations

from enum import Enum


class Advice(Enum):
    COME_BACK = "come back with a new ticket, after a pause"
    ASK_A_PERSON = "somebody must log in again, update, or close another tab"


def advice_on(code: int | None) -> Advice:
    """`code` is None or 1006 where the connection simply broke."""
    if code is not None and 4500 <= code <= 4999:
        return Advice.ASK_A_PERSON
    return Advice.COME_BACK
