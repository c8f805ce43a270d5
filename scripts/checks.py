"""What scripts/test does, step by step; stops at the first step that is red."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

# The order is from quick to slow. pytest: two processes, each test in any order and beside others;
# whoever has nothing left takes from the other, for the slow tests lie together.
STEPS: dict[str, list[str]] = {
    "formatting": ["ruff", "format", "--check", "--quiet", "."],
    "lint": ["ruff", "check", "--quiet", "."],
    "types": ["mypy", "--no-error-summary"],
    "tests": ["pytest", "-n", "2", "--dist", "worksteal"],
}
HINTS = {"formatting": "run .venv/bin/ruff format .", "lint": "try .venv/bin/ruff check --fix ."}


def main(pytest_arguments: Sequence[str]) -> int:
    timings = []
    for name, (module, *arguments) in STEPS.items():
        extra = pytest_arguments if name == "tests" else ()
        started = time.monotonic()
        print(f"== {name}", flush=True)
        code = _run([sys.executable, "-m", module, *arguments, *extra])
        timings.append(f"{name} {time.monotonic() - started:.1f} s")
        if code != 0:
            hint = f" ({HINTS[name]})" if name in HINTS else ""
            print(f"== RED: {name}{hint}; {', '.join(timings)}", flush=True)
            return 1
    print(f"== green: {', '.join(timings)}", flush=True)
    return 0


def _run(command: list[str]) -> int:
    """Runs a step to its end, also when we are told to stop: pytest has a Postgres to put away."""
    process = subprocess.Popen(command)

    def pass_on(number: int, _frame: FrameType | None) -> None:
        # Ctrl-C at a terminal has reached the step itself.
        if number == signal.SIGTERM:
            process.terminate()

    before = [
        (number, signal.signal(number, pass_on)) for number in (signal.SIGINT, signal.SIGTERM)
    ]
    try:
        return process.wait()
    finally:
        for number, handler in before:
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
