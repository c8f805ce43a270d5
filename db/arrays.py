"""Arrays as Postgres reads them from text (its manual, 8.15.6), for the write path of the chat.

The driver writes them, too, but looks at each element's type first, which for a batch of messages
took longer than all the rest of sending it.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID


def plain_array(values: Iterable[int | UUID]) -> str:
    """Of what needs no quotes; to be cast: %s::bigint[]."""
    return f"{{{','.join(map(str, values))}}}"


def text_array(values: Iterable[str]) -> str:
    """To be cast: %s::text[]."""
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join([f'"{value}"' for value in quoted]) + "}"
