"""Writes as hard as it can amid everything that may happen around it, and counts what went wrong.

    scripts/stress [--seconds 60] [--writers 8] [--processes 3] [--limit 100]

Meanwhile sessions are revoked, people muted, taken out of channels and put back, messages repeated
and erased, and old rows forgotten. Prints how many messages were stored, how many gaps, doubles,
deadlocks, backward timestamps and wrong answers there were, and the most that one account got
accepted in any window. Runs on an embedded Postgres of its own; with DB_* of the owner of a
migrated database on that one, which it leaves full of messages: never on one that people use.

Exit code 1: something was not 0 that has to be, or an account got more than its limit.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from psycopg.conninfo import make_conninfo

from db.chat_log import WriteLimits
from scripts.embedded_postgres import EmbeddedPostgres
from tests.stress.ground import Ground, lay
from tests.stress.unrest import Unrest
from tests.stress.verdict import Verdict, deadlocks, judge
from tests.stress.writers import Report, run_writers
from tests.support.own_database import migrated

WINDOW_SECONDS = 10
ACCOUNTS, CHANNELS = 64, 4
# Statistics of the server come a moment later.
SETTLE_SECONDS = 1.5


def main(arguments: list[str]) -> int:
    options = _parse(arguments)
    limits = WriteLimits(
        window_seconds=WINDOW_SECONDS,
        max_per_account=options.limit,
        max_per_address=1_000_000,
        lockout_seconds=1,
        lockout_max_seconds=2,
    )
    with _database() as conninfo:
        ground = lay(conninfo, ACCOUNTS, CHANNELS)
        with ground.connect() as connection:
            before = deadlocks(connection)
            report, unrest = _run(ground, limits, options)
            new_deadlocks = deadlocks(connection) - before
            verdict = judge(connection, ground, report, new_deadlocks, WINDOW_SECONDS)
    _show(options, report, unrest, verdict)
    return 0 if verdict.is_good(options.limit) else 1


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/stress")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--limit", type=int, default=100, help="messages of an account in 10 s")
    return parser.parse_args(arguments)


@contextlib.contextmanager
def _database() -> Iterator[str]:
    """libpq's connection string of the owner."""
    if os.environ.get("DB_HOST"):
        yield _conninfo(os.environ)
        return
    with tempfile.TemporaryDirectory(prefix="gatehouse-stress-") as folder:
        postgres = EmbeddedPostgres(Path(folder))
        try:
            yield _conninfo(migrated(postgres).environment("owner"))
        finally:
            postgres.destroy()


def _conninfo(environment: Mapping[str, str]) -> str:
    return make_conninfo(
        host=environment["DB_HOST"],
        port=environment.get("DB_PORT", "5432"),
        dbname=environment.get("DB_NAME", "gatehouse"),
        user=environment.get("DB_USER", "gatehouse"),
        password=environment.get("DB_PASSWORD", ""),
        sslmode=environment.get("DB_SSLMODE", "require"),
    )


def _run(ground: Ground, limits: WriteLimits, options: argparse.Namespace) -> tuple[Report, Unrest]:
    unrest = Unrest(ground)
    spawned = multiprocessing.get_context("spawn")
    whole = Report()
    with tempfile.TemporaryDirectory(prefix="gatehouse-stress-") as folder:
        files = [Path(folder) / str(number) for number in range(options.processes)]
        processes = []
        for number, file in enumerate(files):
            share = len(range(number, options.writers, options.processes))
            work = (ground, limits, share, options.seconds, file)
            processes.append(spawned.Process(target=run_writers, args=work))
        unrest.start()
        try:
            for process in processes:
                process.start()
            for process in processes:
                process.join()
        finally:
            unrest.stop()
        for file in files:
            whole.add(pickle.loads(file.read_bytes()))  # noqa: S301 - our own
    time.sleep(SETTLE_SECONDS)
    return whole, unrest


def _show(options: argparse.Namespace, report: Report, unrest: Unrest, verdict: Verdict) -> None:
    rate = verdict.messages / options.seconds
    print(f"{verdict.messages} messages in {options.seconds:.0f} s, {rate:.0f} a second,")
    print(f"by {options.writers} writers in {options.processes} processes")
    print("  answers:", _counts(report.verdicts))
    print("  amid:", _counts(unrest.done))
    print("  tried again:", _counts(report.failures + unrest.failures))
    print(f"gaps                     {verdict.gaps}")
    print(f"doubles                  {verdict.doubles}")
    print(f"deadlocks                {verdict.deadlocks}")
    print(f"backward timestamps      {verdict.backward_timestamps}")
    print(f"wrong answers            {verdict.wrong_answers}")
    print(
        f"most in any {WINDOW_SECONDS} s         {verdict.most_in_a_window}"
        f" of one account, allowed {options.limit}"
    )
    for line in report.wrong[:10]:
        print(f"  {line}")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "nothing"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
