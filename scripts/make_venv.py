"""Makes `.venv` complete; scripts/venv.sh calls it when the stamp is missing or stale.

Runs under any Python from 3.11 on, outside of the environment that it makes. Several scripts may
start at once on a fresh clone: one works, the others wait. The kernel releases the lock when its
holder dies, and pip holds it too, so a killed script neither blocks the next one nor lets it in
while its pip is still writing.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(".venv")
PYTHON = FOLDER / "bin" / "python"
STAMP = FOLDER / "complete-for"  # scripts/venv.sh compares it
REQUIREMENTS = "requirements-dev.txt"


def main(lock_sum: str) -> int:
    with Path(".venv.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another script is making .venv; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        version = _version(Path(sys.executable))
        complete_for = STAMP.read_text().strip() if STAMP.exists() else ""
        if complete_for and complete_for == f"{lock_sum} {_version(PYTHON)}":
            return 0
        _say("making .venv from requirements-dev.txt; the first time takes about half a minute")
        started = time.monotonic()
        # An environment that was complete once, for this Python, only needs what has changed.
        reusable = bool(complete_for) and _version(PYTHON) == version
        STAMP.unlink(missing_ok=True)
        if not reusable and not _run(
            [sys.executable, "-I", "-m", "venv", "--clear", str(FOLDER)], lock.fileno()
        ):
            _say("could not make .venv; the lines above say why")
            return 1
        install = ["install", "--quiet", "--no-input", "--disable-pip-version-check"]
        pip = [str(PYTHON), "-I", "-m", "pip", *install, "--require-hashes", "-r", REQUIREMENTS]
        if not _run(pip, lock.fileno()):
            _say(f"could not install {REQUIREMENTS}; the lines above say why. Run it again")
            return 1
        STAMP.write_text(f"{lock_sum} {_version(PYTHON)}\n")
        _say(f".venv is complete ({time.monotonic() - started:.0f} s)")
    return 0


def _run(command: list[str], lock: int) -> bool:
    """Runs a command that keeps the lock; shows what it said only when it failed."""
    done = subprocess.run(
        command,
        env={**os.environ, "PIP_USER": "0"},  # a habit of some machines that no venv allows
        pass_fds=(lock,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        print("\n".join(done.stdout.strip().splitlines()[-15:]), file=sys.stderr)
    return done.returncode == 0


def _version(python: Path) -> str:
    """`Python 3.11.7`, or nothing when that Python does not run."""
    try:
        done = subprocess.run([python, "-V"], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def _say(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except KeyboardInterrupt:
        _say("stopped; nothing is half done that the next run does not repair")
        sys.exit(130)
    except OSError as error:
        _say(f"could not make .venv: {error}")
        sys.exit(1)
