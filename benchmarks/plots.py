"""The plots of docs/performance.md; a program for benchmarks/.venv, which has matplotlib.

    python -m benchmarks.plots RUNS.jsonl FOLDER

Leaves in the folder a PNG for each plot whose figures were measured, and no other, and prints
{name: title} as JSON. Bars are medians, thin lines the range of the runs. The background is white,
so that dark pages show them too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.goals import PEERS, SATURATION
from benchmarks.recording import Recording, Spread, in_digits

REVOCATION_GOAL_MS = 250
OURS, DIMMED, PEER, GOAL = "#1f5fa8", "#8fb4dc", "#9a9a9a", "#c2410c"
WIDTH_INCHES, DOTS_PER_INCH = 7.2, 120
RANGE_LINE = {"ecolor": "#222222", "elinewidth": 1.0, "capsize": 3}
PERCENTILES = ("p50", "p95", "p99")
STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.constrained_layout.w_pad": 0.12,
    "figure.constrained_layout.h_pad": 0.12,
}


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    color: str
    spread: Spread | None


@dataclass(frozen=True, slots=True)
class Series:
    """A bar for each percentile."""

    label: str
    color: str
    spreads: tuple[Spread | None, ...]

    @classmethod
    def of(cls, recording: Recording, label: str, color: str, figure: str, path: str) -> Series:
        spreads = [recording.spread(figure, f"{path}.{name}") for name in PERCENTILES]
        return cls(label, color, tuple(spreads))


def main(runs: str, folder: str) -> None:
    recording = Recording.read(Path(runs))
    into = Path(folder)
    into.mkdir(exist_ok=True)
    for stale in into.glob("*.png"):
        stale.unlink()
    drawn = {}
    with mpl.rc_context(STYLE):
        for name, (title, draw) in PLOTS.items():
            figure = Figure(layout="constrained")
            axes = figure.add_subplot()
            axes.set_title(title)
            if draw(recording, axes):
                # Without the version of matplotlib: the same runs make the same file.
                file = into / f"{name}.png"
                figure.savefig(file, dpi=DOTS_PER_INCH, metadata={"Software": None})
                drawn[file.name] = title
    print(json.dumps(drawn))


def saturation(recording: Recording, axes: Axes) -> bool:
    ours = {"saturation": "Gatehouse", "saturation-of-two-processes": "Gatehouse, two processes"}
    bars = [
        Bar(label, OURS, recording.spread(figure, *SATURATION)) for figure, label in ours.items()
    ]
    bars += [
        Bar(label, PEER, recording.spread(f"saturation-of-{peer}", *SATURATION))
        for peer, label in PEERS.items()
    ]
    return _bars(axes, bars, "messages a second, each delivered to 100 members")


def send_to_ack(recording: Recording, axes: Axes) -> bool:
    series = [Series.of(recording, "Gatehouse", OURS, "send-to-ack", "ack_ms")]
    shades = ("#6b6b6b", "#9a9a9a", "#c4c4c4")
    series += [
        Series.of(recording, label, shade, f"send-to-ack-of-{peer}", "ack_ms")
        for (peer, label), shade in zip(PEERS.items(), shades, strict=True)
    ]
    return _percentiles(axes, series, "ms")


def revocation(recording: Recording, axes: Axes) -> bool:
    bars = [
        Bar(
            f"2 000 at once, {name}",
            OURS,
            recording.spread("revocation", f"all_at_once.close_ms.{name}"),
        )
        for name in PERCENTILES
    ]
    alone = recording.spread("revocation", "one_alone.close_ms.p99")
    bars.append(Bar("one alone", OURS, alone))
    if not _bars(axes, bars, "ms from the commit to the close; dashed: the goal for p99"):
        return False
    axes.axvline(REVOCATION_GOAL_MS, color=GOAL, linewidth=1.4, linestyle="--")
    axes.set_xlim(0, max(axes.get_xlim()[1], REVOCATION_GOAL_MS * 1.12))
    return True


def bearer_get(recording: Recording, axes: Axes) -> bool:
    bars = [
        Bar("Gatehouse", OURS, recording.spread("bearer-get", "per_second")),
        Bar("FastAPI + SQLAlchemy", PEER, recording.spread("bearer-get-of-fastapi", "per_second")),
    ]
    return _bars(axes, bars, "calls a second")


def login_flood(recording: Recording, axes: Axes) -> bool:
    series = [
        Series.of(recording, "undisturbed", DIMMED, "login-flood", "calm.ms"),
        Series.of(recording, "beside 20 parallel guesses", OURS, "login-flood", "flooded.ms"),
    ]
    return _percentiles(axes, series, "ms")


def growth(recording: Recording, axes: Axes) -> bool:
    few, many = "ack_ms_of_10_thousand", "ack_ms_of_5_million"
    series = [
        Series.of(recording, "10 thousand stored", DIMMED, "growth", few),
        Series.of(recording, "5 million stored", OURS, "growth", many),
    ]
    return _percentiles(axes, series, "ms")


def admissions(recording: Recording, axes: Axes) -> bool:
    def per_second(path: str) -> Spread | None:
        return recording.spread("admissions", f"{path}.per_second")

    bars = [
        Bar("Gatehouse, with a ticket", OURS, per_second("with_ticket")),
        Bar("same server, no ticket check", DIMMED, per_second("same_server")),
        Bar("bare websockets library", PEER, per_second("bare_library")),
    ]
    return _bars(axes, bars, "sockets admitted a second")


PLOTS: Mapping[str, tuple[str, Callable[[Recording, Axes], bool]]] = {
    "saturation": ("Stored and delivered at saturation", saturation),
    "send-to-ack": ("Send to ack, 20 messages a second", send_to_ack),
    "revocation": ("From a revocation to the closed socket", revocation),
    "bearer-get": ("Bearer GET, the session read in Postgres", bearer_get),
    "login-flood": ("Bearer GET while somebody guesses passwords", login_flood),
    "growth": ("Send to ack, with few and with many messages stored", growth),
    "admissions": ("Sockets admitted a second", admissions),
}


def _bars(axes: Axes, bars: list[Bar], unit: str) -> bool:
    """From top to bottom; False when there is nothing of ours, or nothing beside it."""
    measured = [(bar, bar.spread) for bar in bars if bar.spread is not None]
    if bars[0].spread is None or len(measured) < 2:
        return False
    _size(axes, 1.05 + 0.36 * len(measured))
    highest = max(spread.high for _, spread in measured)
    for place, (bar, spread) in enumerate(measured):
        axes.barh(
            place, spread.median, 0.62, color=bar.color, xerr=_error(spread), error_kw=RANGE_LINE
        )
        axes.text(spread.high + highest * 0.015, place, in_digits(spread.median), va="center")
    axes.set_yticks(range(len(measured)), [bar.label for bar, _ in measured])
    axes.invert_yaxis()
    axes.set_xlim(0, highest * 1.12)
    axes.set_xlabel(unit)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    return True


def _percentiles(axes: Axes, series: list[Series], unit: str) -> bool:
    """Groups of bars side by side; False when there is nothing of ours, or nothing beside it."""
    measured = [one for one in series if None not in one.spreads]
    if series[0] not in measured or len(measured) < 2:
        return False
    _size(axes, 3.1)
    width = 0.8 / len(measured)
    highest = max(spread.high for one in measured for spread in one.spreads if spread)
    for number, one in enumerate(measured):
        for group, spread in enumerate(one.spreads):
            assert spread is not None
            place = group + (number - (len(measured) - 1) / 2) * width
            axes.bar(
                place,
                spread.median,
                width * 0.92,
                color=one.color,
                label=one.label if group == 0 else None,
                yerr=_error(spread),
                error_kw=RANGE_LINE,
            )
            above = spread.high + highest * 0.02
            axes.text(place, above, in_digits(spread.median), ha="center", fontsize=9)
    axes.set_xticks(range(len(PERCENTILES)), PERCENTILES)
    axes.set_ylim(0, highest * 1.12)
    axes.set_ylabel(unit)
    axes.grid(visible=False, axis="x")
    axes.tick_params(axis="x", length=0)
    axes.figure.legend(loc="outside lower center", ncols=len(measured))
    return True


def _size(axes: Axes, height_inches: float) -> None:
    axes.figure.set_size_inches(WIDTH_INCHES, height_inches)


def _error(spread: Spread) -> list[list[float]]:
    """As matplotlib wants it: how far below and above the bar's end."""
    return [[spread.median - spread.low], [spread.high - spread.median]]


if __name__ == "__main__":
    main(*sys.argv[1:])
