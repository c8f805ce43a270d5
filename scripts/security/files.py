"""The files that a gate looks at: what git has or would take, as it lies in the folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

from scripts.security.gate import CannotLook


def tracked(root: Path) -> list[str]:
    return [name for name in _git(root, *_LIST).decode().split("\0") if (root / name).is_file()]


def blobs_of_history(root: Path) -> list[tuple[str, bytes]]:
    """(path, content) of every version of every file in every commit."""
    if (root / ".git" / "shallow").exists():
        raise CannotLook("the clone is shallow: its history is not here (fetch-depth: 0)")
    listed = _git(root, "rev-list", "--objects", "--all").decode(errors="replace").splitlines()
    names = dict(line.split(" ", 1) for line in listed if " " in line)
    answers = _git(root, "cat-file", "--batch", given="\n".join(names).encode())
    found, position = [], 0
    while position < len(answers):
        end = answers.index(b"\n", position)
        name, kind, size = answers[position:end].split()
        content = answers[end + 1 : end + 1 + int(size)]
        position = end + 2 + int(size)
        if kind == b"blob":
            found.append((names[name.decode()], content))
    return found


_LIST = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")


def _git(root: Path, *words: str, given: bytes = b"") -> bytes:
    done = subprocess.run(["git", *words], cwd=root, input=given, capture_output=True, check=False)
    if done.returncode != 0:
        raise CannotLook(f"git {words[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
