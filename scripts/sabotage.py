"""Shows for every mutation in tests/sabotage that its tests catch it.

    scripts/sabotage [--only NAME ...] [--list] [--jobs N]

Works on copies of the tree, never on the tree itself. The named tests run unmutated first, so that
a test that is red anyway proves nothing. Exit code 0 only when every mutation is caught.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.sabotage.mutation import Mutation, StaleMutation
from tests.sabotage.mutations import MUTATIONS

ROOT = Path(__file__).resolve().parents[1]
TESTS_FAILED = 1  # pytest's exit code for red tests, and for nothing else
MUTATION_SECONDS = 300
BASELINE_SECONDS = 1800  # for the whole list it is most of the suite


def main(arguments: list[str]) -> int:
    options = _parse(arguments)
    chosen = [one for one in MUTATIONS if not options.only or one.name in options.only]
    if options.list:
        for mutation in chosen:
            print(f"{mutation.name:<40}{mutation.why}")
        return 0
    if not chosen:
        print("sabotage: no mutation has that name; --list shows them", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="gatehouse-sabotage-") as folder:
        copies = [_copy_tree(Path(folder) / str(number)) for number in range(options.jobs)]
        print("== the named tests, unmutated", flush=True)
        if not _baseline_is_green(copies[0], chosen, options.jobs):
            return 1
        return _try_all(copies, chosen)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/sabotage")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--jobs", type=int, default=2, help="mutations tried at once")
    return parser.parse_args(arguments)


def _try_all(copies: list[Path], mutations: list[Mutation]) -> int:
    free: SimpleQueue[Path] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def attempt(mutation: Mutation) -> bool:
        copy = free.get()
        try:
            started = time.monotonic()
            verdict = _attempt(copy, mutation)
            seconds = time.monotonic() - started
            print(f"{verdict:<12}{mutation.name:<44}{seconds:5.1f} s", flush=True)
            return verdict == "caught"
        finally:
            free.put(copy)

    with ThreadPoolExecutor(len(copies)) as threads:
        caught = list(threads.map(attempt, mutations))
    print(f"== {sum(caught)} of {len(caught)} mutations caught", flush=True)
    return 0 if all(caught) else 1


def _attempt(copy: Path, mutation: Mutation) -> str:
    path = copy / mutation.file
    original = path.read_text("utf-8")
    try:
        path.write_text(mutation.mutated(copy), "utf-8")
    except StaleMutation:
        return "STALE"
    try:
        code = _pytest(copy, mutation.tests, MUTATION_SECONDS, "-x").returncode
    except subprocess.TimeoutExpired:
        return "TOO LONG"
    finally:
        path.write_text(original, "utf-8")
    if code == TESTS_FAILED:
        return "caught"
    return "NOT CAUGHT" if code == 0 else f"ERROR {code}"


def _baseline_is_green(copy: Path, mutations: list[Mutation], jobs: int) -> bool:
    tests = sorted({test for mutation in mutations for test in mutation.tests})
    done = _pytest(copy, tests, BASELINE_SECONDS, "-n", str(jobs))
    if done.returncode == 0:
        return True
    print(done.stdout[-4000:], flush=True)
    print("sabotage: these tests are red without any mutation: mend them first", file=sys.stderr)
    return False


def _pytest(
    copy: Path, tests: Iterable[str], seconds: float, *options: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *tests],
        cwd=copy,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )


def _copy_tree(target: Path) -> Path:
    """What git tracks or would track, as it is in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode("utf-8")
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    return target


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
