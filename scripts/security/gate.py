"""What a gate says, and how it calls its tool."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """`path` is relative to the repository; `text` never holds a secret that was found."""

    gate: str
    rule: str
    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


@dataclass(frozen=True, slots=True)
class Report:
    """Findings, or why nobody looked."""

    findings: tuple[Finding, ...] = ()
    not_run: str | None = None


Gate = Callable[[Path], Report]


class CannotLook(Exception):
    """The end of "not run: ..."."""


def tool(name: str) -> str:
    """A program of this environment, or else of the machine."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise CannotLook(f"{name} is not installed")
    return found


def call(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=900,
        )
    except subprocess.TimeoutExpired:
        raise CannotLook(f"{Path(command[0]).name} did not end within 15 minutes") from None


def last_line(text: str) -> str:
    """What a tool said last: mostly why it failed."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def relative(path: str, root: Path) -> str:
    absolute = (root / path).resolve()
    return absolute.relative_to(root.resolve()).as_posix()
