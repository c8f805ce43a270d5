"""Verifies the audit trail: scripts/verify_audit

    scripts/verify_audit                     in the database that DB_* names, columns and all
    scripts/verify_audit --export FILE       the same, and writes it down as JSON lines
    scripts/verify_audit --file FILE         such a file, without a database

With `--head ID:HASH` (any number of them) it must also be the chain of which that head was kept
elsewhere: in the log of the services or of Postgres, in metrics, on paper. Without one, nothing
tells that whoever owns the database has cut its end off, or has made it anew.

Prints one line a finding. Exit codes: 0 intact, 1 broken, 2 it could not be read, 64 the command
line is wrong, 78 the configuration is.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from db import audit
from db.connections import FAILED, connect
from db.secret_manager import resolve_secrets
from rules.audit_chain import NotALink, check, contradictions, noting, read_lines
from rules.settings import EXIT_CODE, ConfigurationError, load

EX_USAGE = 64  # of sysexits.h
COULD_NOT_LOOK = 2
_HEAD = re.compile(r"([1-9][0-9]{0,15}):([0-9a-f]{64})")
ALL = 2**53


@dataclass(frozen=True, slots=True)
class Found:
    """`hashes` has those of the rows that were kept elsewhere, as far as they are there."""

    rows: int
    head_id: int
    head_hash: bytes
    first_broken_id: int | None
    hashes: Mapping[int, bytes]


def main(arguments: list[str]) -> int:
    try:
        options = _parser().parse_args(arguments)
        kept = dict(options.head)
    except SystemExit as exit_:
        return EX_USAGE if exit_.code else 0
    try:
        found = _in_file(options.file, kept) if options.file else _in_database(options, kept)
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"verify_audit: {problem}", file=sys.stderr)
        return EXIT_CODE
    except (OSError, UnicodeDecodeError, NotALink, FAILED) as error:
        print(f"verify_audit: could not look: {str(error).strip()}", file=sys.stderr)
        return COULD_NOT_LOOK
    return _tell(found, kept)


def _in_file(path: Path, kept: Mapping[int, bytes]) -> Found:
    hashes: dict[int, bytes] = {}
    with path.open(encoding="utf-8") as file:
        checked = check(noting(read_lines(file), kept, hashes))
    return Found(checked.rows, checked.head_id, checked.head, checked.first_broken_id, hashes)


def _in_database(options: argparse.Namespace, kept: Mapping[int, bytes]) -> Found:
    settings = load(os.environ, "migrate")
    passwords = resolve_secrets(settings, {"DB_PASSWORD"}).db_passwords
    with connect(settings.database, passwords, "gatehouse-verify-audit") as connection:
        verified = audit.verify(connection, most_rows=ALL)
        if options.export:
            with options.export.open("w", encoding="utf-8") as file:
                file.writelines(f"{link.as_line()}\n" for link in audit.export_audit(connection))
        return Found(
            verified.rows,
            verified.head.id,
            verified.head.hash,
            verified.first_broken_id,
            audit.hashes_of(connection, kept),
        )


def _tell(found: Found, kept: Mapping[int, bytes]) -> int:
    told = contradictions(found.hashes, kept)
    if found.first_broken_id is not None:
        told.insert(0, f"row {found.first_broken_id} is the first that is broken")
    for line in told:
        print(f"BROKEN: {line}")
    if told:
        return 1
    compared = f", {len(kept)} kept elsewhere" if kept else ""
    print(f"intact: {found.rows} rows{compared}, head {found.head_id}:{found.head_hash.hex()}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/verify_audit", usage=__doc__)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--file", type=Path)
    where.add_argument("--export", type=Path)
    parser.add_argument("--head", type=_head, action="append", default=[])
    return parser


def _head(value: str) -> tuple[int, bytes]:
    match = _HEAD.fullmatch(value.lower())
    if match is None:
        raise argparse.ArgumentTypeError("a head looks like 812:9f86d0..., as this prints it")
    return int(match[1]), bytes.fromhex(match[2])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
