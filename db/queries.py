"""Loads the named queries of db/sql/queries/<subject>.sql.

A file holds statements, each under a header `-- name: verb_object_qualifier`; comment lines after
it belong to the query. A name that is missing or stands twice fails when the module that wants it
is imported, not when a user arrives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).parent / "sql" / "queries"
_HEADER = re.compile(r"^-- name: ([a-z_0-9]+)[ \t]*$", re.MULTILINE)


def load(subject: str) -> Mapping[str, str]:
    """The queries of one subject by name; a KeyError at import names the one that is missing."""
    return parse((FOLDER / f"{subject}.sql").read_text("utf-8"), subject)


def parse(text: str, subject: str) -> Mapping[str, str]:
    parts = _HEADER.split(text)
    names, statements = parts[1::2], parts[2::2]
    queries: dict[str, str] = {}
    for name, statement in zip(names, statements, strict=True):
        if name in queries:
            raise ValueError(f"{subject}.sql has two queries named {name}")
        queries[name] = statement.strip().removesuffix(";")
    return queries
