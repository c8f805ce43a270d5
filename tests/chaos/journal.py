"""A file of JSON lines, each on the disk before its writer goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Journal:
    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def write(self, **members: Any) -> None:
        self._file.write(json.dumps(members) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def note(self, **members: Any) -> None:
        """For what was seen: on the disk with the next write, and in the kernel's hands at once."""
        self._file.write(json.dumps(members) + "\n")
        self._file.flush()

    def close(self) -> None:
        os.fsync(self._file.fileno())
        self._file.close()


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
