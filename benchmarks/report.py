"""scripts/benchmark --report: the table of docs/performance.md and its plots, from recorded runs.

The text around the two markers belongs to people and is left as it is. What was not measured is
said to be so; its plots go away, so that no picture is older than the table.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.goals import GOALS, Goal
from benchmarks.locked_python import locked_python
from benchmarks.recording import Recording, Run, Spread, in_digits, leaves

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "performance.md"
PLOTS = ROOT / "docs" / "performance"
BEGIN = "<!-- Made by scripts/benchmark --report, up to the end of the figures. -->"
END = "<!-- The end of the figures. -->"
BOTTLENECK_BUSY = 0.9  # benchmarks/load.py


def write_report(file: Path) -> str:
    """The table and the plots into their places; answers what there is to say about them."""
    recording = Recording.read(file)
    plots = _draw(file)
    pictures = [f"![{title}]({PLOTS.name}/{name})" for name, title in plots.items()]
    figures = "\n\n".join([table(recording), *pictures])
    DOCUMENT.write_text(between_the_markers(DOCUMENT.read_text("utf-8"), figures), "utf-8")
    measured = [(goal, goal.measured(recording)) for goal in GOALS]
    missed = [goal.what for goal, spread in measured if spread and not goal.is_reached(spread)]
    lines = [
        f"{sum(spread is not None for _, spread in measured)} of {len(GOALS)} goals measured, "
        f"{len(missed)} of them not reached; {len(plots)} plots",
        *(f"not reached: {what}" for what in missed),
    ]
    return "\n".join(lines)


def between_the_markers(text: str, figures: str) -> str:
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{DOCUMENT.name} has lost one of its markers: {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}"


def table(recording: Recording) -> str:
    lines = [
        "| what | figure | target | measured | runs | reached |",
        "|---|---|---|---|---|---|",
        *(_row(goal, recording) for goal in GOALS),
    ]
    doubts = [
        f"- `{figure}`: {doubt}."
        for figure in recording.figures()
        for doubt in dict.fromkeys(
            doubt for run in recording.runs(figure) for doubt in _doubts(run)
        )
    ]
    if doubts:
        lines += ["", "To be read with care:", "", *doubts]
    times = [run.at for figure in recording.figures() for run in recording.runs(figure)]
    if times:
        lines += ["", f"Measured from {_day(min(times))} to {_day(max(times))} (UTC)."]
    return "\n".join(lines)


def _row(goal: Goal, recording: Recording) -> str:
    target = f"{goal.sense} {in_digits(goal.bound)} {goal.unit}"
    promise = f"| {goal.what} | `{goal.figure}` | {target} |"
    spread = goal.measured(recording)
    used = [goal.figure] if goal.peer is None else [goal.figure, goal.peer]
    if spread is None:
        missing = " and ".join(
            f"`{figure}`" for figure in used if recording.spread(figure, *goal.paths) is None
        )
        return f"{promise} not measured: {missing or 'no ratio'} | | |"
    measured = _text(spread) + (f" {goal.unit}" if goal.unit != "times" else "")
    if goal.peer is not None:
        both = [recording.spread(figure, *goal.paths) for figure in used]
        medians = " against ".join(in_digits(one.median) for one in both if one)
        measured += f"; {medians} {goal.unit_of_both}"
    taken = [recording.runs(figure) for figure in used]
    runs = f"{min(map(len, taken))} x {min(run.seconds for take in taken for run in take):g} s"
    reached = "yes" if goal.is_reached(spread) else "**no**"
    return f"{promise} {measured} | {runs} | {reached} |"


def _doubts(run: Run) -> Iterator[str]:
    """What makes this run's numbers another thing than they seem."""
    for path, value in leaves(run.figures):
        name = path.rpartition(".")[2]
        if name == "busy" and value > BOTTLENECK_BUSY:
            yield "the load generator was the bottleneck, so this is a lower bound"
        elif name == "slowest_member_share" and value < 0.99:
            yield "a member got less than the one who was watched"
        elif path == "closed" and value:
            yield "members were thrown out"
        elif "refusals" in path and value:
            yield "some was refused"
        elif ".statuses." in f".{path}" and name != "200":
            yield f"some answers were {name}"


def _draw(file: Path) -> dict[str, str]:
    """The plots' names and titles. matplotlib is nobody else's business, so it has a home of its
    own."""
    python = str(locked_python(ROOT / "benchmarks"))
    command = [python, "-m", "benchmarks.plots", str(file.resolve()), str(PLOTS)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    plots: dict[str, str] = json.loads(done.stdout)
    return plots


def _text(spread: Spread) -> str:
    numbers = [in_digits(value) for value in (spread.median, spread.low, spread.high)]
    return "{} ({} to {})".format(*numbers)


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"
