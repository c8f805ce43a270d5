"""scripts/benchmark: measures, and prints medians with ranges.

    scripts/benchmark [FIGURE ...] [--seconds 30] [--runs 3] [--json FILE] [--list]
    scripts/benchmark --report FILE

Without a name: all of them. Each run has a fresh Postgres and fresh processes. `--json` appends
what was measured, a line a run. `--report` measures nothing: from such a file it makes the table
and the plots of docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.figures import FIGURES
from benchmarks.recording import UnreadableRecording, leaves
from benchmarks.report import write_report


def main(arguments: list[str]) -> int:
    options = _parse(arguments)
    if options.list:
        for name, function in FIGURES.items():
            print(f"{name:<30}{(function.__doc__ or 'the same, of a peer').splitlines()[0]}")
        return 0
    if options.report:
        try:
            print(write_report(options.report))
        except (UnreadableRecording, OSError) as error:
            print(f"benchmark: {error}", file=sys.stderr)
            return 1
        return 0
    unknown = [name for name in options.figures if name not in FIGURES]
    if unknown:
        print(f"benchmark: no figure is called {', '.join(unknown)}; see --list", file=sys.stderr)
        return 2
    for name in options.figures or FIGURES:
        _measure(name, options)
    return 0


def _measure(name: str, options: argparse.Namespace) -> None:
    runs = []
    for number in range(options.runs):
        # A figure that was taken beside other work says so.
        load_before = os.getloadavg()[0]
        with Bench() as bench:
            began = time.time()
            figures = FIGURES[name](bench, options.seconds)
        runs.append(figures)
        line = {"figure": name, "run": number + 1, "load_before": round(load_before, 2)}
        record = {**line, "seconds": options.seconds, "at": round(began), "figures": figures}
        if options.json:
            with Path(options.json).open("a") as file:
                file.write(json.dumps(record) + "\n")
    print(f"\n{name} ({options.runs} x {options.seconds:g} s, load before {load_before:.1f})")
    for path, values in _columns(runs).items():
        if all(isinstance(value, (int, float)) for value in values):
            low, middle, high = min(values), statistics.median(values), max(values)
            print(f"  {path:<44}{middle:>12.4g}   ({low:.4g} to {high:.4g})")
        else:
            print(f"  {path:<44}{' '.join(map(str, values)):>12}")
    sys.stdout.flush()


def _columns(runs: list[dict[str, Any]]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for figures in runs:
        for path, value in leaves(figures):
            columns.setdefault(path, []).append(value)
    return columns


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/benchmark")
    parser.add_argument("figures", nargs="*", metavar="FIGURE")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", help="a file to append the runs to")
    parser.add_argument("--report", type=Path, help="make the table and the plots from such a file")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args(arguments)
    if options.report and options.figures:
        parser.error("--report measures nothing, so it takes no figure")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
