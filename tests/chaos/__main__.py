"""scripts/chaos: a run of chaos, and what the checker says of it.

    scripts/chaos [--seed N] [--seconds S] [--kills K] [--revocations R] [--pause P]

Ends after S seconds (60), or as soon as each kind of thing was killed K times. Exit code 0 only
when no promise was broken.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.director import Director, Plan


def main(arguments: list[str]) -> int:
    options = _parse(arguments)
    folder = Path(tempfile.mkdtemp(prefix="gatehouse-chaos-"))
    plan = Plan(
        options.seed,
        options.seconds,
        options.kills,
        revocations=options.revocations,
        pause=options.pause,
    )
    _say(f"seed {plan.seed}, {folder}")
    began = time.monotonic()
    verdict = Director(plan, folder, _say).run()
    for name, count in sorted(verdict.counts.items()):
        _say(f"{count:>8}  {name}")
    _say(f"{time.monotonic() - began:>8.0f}  seconds")
    for damage in verdict.damages[:50]:
        _say(f"BROKEN: {damage}")
    if verdict.damages:
        _say(f"{len(verdict.damages)} promises broken; the journals are in {folder}")
        return 1
    shutil.rmtree(folder)
    _say("no promise was broken")
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kills", type=int, help="of each kind; then it is enough")
    parser.add_argument("--revocations", type=int, default=4, help="at least 2, at most 8")
    parser.add_argument("--pause", type=float, default=0.4, help="seconds between two blows")
    return parser.parse_args(arguments)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
