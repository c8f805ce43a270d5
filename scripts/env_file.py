"""Reads a file of NAME=value lines, quoted as a shell has it, as scripts/run writes dev.env."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

_ENTRY = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)


class EnvFileError(Exception):
    """One line; never with anything that stood in the file, for it holds secrets."""


def read_env_file(path: Path) -> dict[str, str]:
    """A value may hold line breaks inside quotes; `export ` before a name is passed over."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EnvFileError(f"{path} cannot be read ({type(error).__name__})") from None
    try:
        words = shlex.split(text, comments=True)
    except ValueError:
        raise EnvFileError(f"{path} has a quote that is not closed") from None
    values: dict[str, str] = {}
    for position, word in enumerate(words, 1):
        entry = _ENTRY.fullmatch(word)
        if entry is not None:
            values[entry[1]] = entry[2]
        elif word != "export":
            raise EnvFileError(f"{path}: entry {position} is not of the form NAME='value'")
    return values
