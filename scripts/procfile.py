"""Reads the Procfile: which processes the system consists of, and how each is started."""

from __future__ import annotations

import re
from pathlib import Path

_LINE = re.compile(r"([A-Za-z0-9_-]+):\s*(\S.*)")


class ProcfileError(Exception):
    """The Procfile is missing or not one; the message says what is wrong with it."""


def read_procfile(path: Path) -> dict[str, str]:
    """Name to shell command, in the file's order."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise ProcfileError(f"cannot read {path.name}: {error.strerror}") from None
    commands = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _LINE.fullmatch(text)
        if match is None or match[1] in commands:
            raise ProcfileError(f"{path.name}, line {number}: expected `name: command`, each once")
        commands[match[1]] = match[2]
    return commands
