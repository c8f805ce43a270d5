"""The audit trail's chain of hashes, verified without a database.

Each link's hash is SHA-256 over its predecessor's hash and its canonical text. So whoever changes,
takes out, puts in or reorders a link breaks it there, or must make every later one anew, and then
the newest hash differs from the one that was kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

GENESIS = bytes(32)  # the first link's predecessor


class NotALink(Exception):
    """A line that is none of an export's; the message says which."""


@dataclass(frozen=True, slots=True)
class Link:
    """One row, as it is exported: `canonical` is a JSON object that says everything about it."""

    id: int
    canonical: str
    prev_hash: bytes
    hash: bytes

    def as_line(self) -> str:
        return json.dumps(
            {
                "id": self.id,
                "canonical": self.canonical,
                "prev_hash": self.prev_hash.hex(),
                "hash": self.hash.hex(),
            }
        )


@dataclass(frozen=True, slots=True)
class Checked:
    """`head` is the last link's hash; None where nothing was read."""

    rows: int
    head_id: int
    head: bytes
    first_broken_id: int | None


def check(links: Iterable[Link]) -> Checked:
    """Follows the chain from the first link it is given, and stops at the first broken one.

    A chain that begins later than with id 1 is believed about its first predecessor.
    """
    rows = 0
    previous: Link | None = None
    for link in links:
        expected_id = 1 if previous is None else previous.id + 1
        begins_later = previous is None and link.id > 1
        before = previous.hash if previous else (link.prev_hash if begins_later else GENESIS)
        if not begins_later and link.id != expected_id:
            return Checked(rows, previous.id if previous else 0, before, expected_id)
        if link.prev_hash != before or link.hash != hash_of(link) or not _names_its_id(link):
            return Checked(rows, previous.id if previous else 0, before, link.id)
        rows += 1
        previous = link
    if previous is None:
        return Checked(0, 0, GENESIS, None)
    return Checked(rows, previous.id, previous.hash, None)


def noting(
    links: Iterable[Link], wanted: Collection[int], found: dict[int, bytes]
) -> Iterator[Link]:
    """Passes the links on and notes the hashes of those whose ids are wanted."""
    for link in links:
        if link.id in wanted:
            found[link.id] = link.hash
        yield link


def contradictions(found: Mapping[int, bytes], kept: Mapping[int, bytes]) -> list[str]:
    """Why a chain is not the one of which `kept` (id -> hash) was kept elsewhere, a line each.

    An unbroken chain says nothing against somebody who has made it anew from some row on, or cut
    its end off: this does.
    """
    told = []
    for audit_id in sorted(kept):
        if audit_id not in found:
            told.append(f"row {audit_id} was kept elsewhere and is not there any more")
        elif found[audit_id] != kept[audit_id]:
            told.append(f"row {audit_id} is not the one that was kept elsewhere")
    return told


def hash_of(link: Link) -> bytes:
    return hashlib.sha256(link.prev_hash + link.canonical.encode("utf-8")).digest()


def read_lines(lines: Iterable[str]) -> Iterator[Link]:
    """The links of an export; raises NotALink."""
    for number, line in enumerate(lines, 1):
        try:
            value: Any = json.loads(line)
            yield Link(
                id=int(value["id"]),
                canonical=str(value["canonical"]),
                prev_hash=bytes.fromhex(value["prev_hash"]),
                hash=bytes.fromhex(value["hash"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise NotALink(f"line {number} is no row of an export") from error


def _names_its_id(link: Link) -> bool:
    try:
        contents: Any = json.loads(link.canonical)
    except ValueError:
        return False
    return isinstance(contents, dict) and contents.get("id") == link.id
