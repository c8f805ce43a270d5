"""scripts/rehearse-drain: a release with a drain before a crowd, and what became of the promises.

    scripts/rehearse-drain [--sockets N] [--grace SECONDS] [--blackout]

Two gateways are killed with -9 and started again in the middle of it; with --blackout none runs at
the deadline, and one is started a second later. Exit code 0 only when no promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from scripts.embedded_postgres import EmbeddedPostgres
from tests.drains.rehearsal import Plan, Rehearsal
from tests.support.own_database import migrated
from tests.support.processes import Processes


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/rehearse-drain")
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--grace", type=int, default=20, help="seconds")
    parser.add_argument("--blackout", action="store_true", help="no gateway at the deadline")
    options = parser.parse_args(arguments)
    plan = Plan(options.sockets, options.grace, options.blackout)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gatehouse-drain-") as folder, Processes() as processes:
        postgres = EmbeddedPostgres(Path(folder) / "postgres", durable=False)
        try:
            rehearsal = Rehearsal(plan, migrated(postgres), processes, _say)
            damages, figures = asyncio.run(rehearsal.run())
        finally:
            processes.close()
            postgres.destroy()
    for name, count in sorted(figures.items()):
        _say(f"{count:>8}  {name}")
    _say(f"{time.monotonic() - began:>8.0f}  seconds")
    for damage in damages[:50]:
        _say(f"BROKEN: {damage}")
    _say(f"{len(damages)} promises broken" if damages else "no promise was broken")
    return 1 if damages else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
