"""The processes of this machine: who started whom, and who is still running."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent: int
    state: str  # as in ps; Z is a zombie: ended, and not yet collected by its parent


def processes() -> list[Process]:
    """Every process; from /proc where it exists, for small systems have no ps."""
    if not Path("/proc/self/stat").exists():
        return _from_ps()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                # The program's name stands in brackets and may contain anything.
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                found.append(Process(int(entry.name), int(parent), state))
    return found


def children(pid: int) -> list[int]:
    return [process.pid for process in processes() if process.parent == pid]


def descendants(pid: int) -> list[int]:
    """All that `pid` has started, directly or not, as far as the links between still live."""
    table = processes()
    found: list[int] = []
    parents = {pid}
    while parents:
        generation = [process.pid for process in table if process.parent in parents]
        found += generation
        parents = set(generation)
    return found


def running(pids: Iterable[int]) -> set[int]:
    """Those of `pids` that have not ended."""
    alive = {process.pid for process in processes() if not process.state.startswith("Z")}
    return alive & set(pids)


def _from_ps() -> list[Process]:
    listing = subprocess.run(
        ["ps", "-axo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
    )
    rows = (line.split() for line in listing.stdout.splitlines())
    return [Process(int(pid), int(parent), state) for pid, parent, state in rows]
