"""What `scripts/benchmark --json FILE` has written, read back. Nothing but the standard library:
the plots are drawn in an environment that has nothing of the project's."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class UnreadableRecording(Exception):
    """A line is not a run; the message says which."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some runs, and the range they lie in."""

    low: float
    median: float
    high: float

    def over(self, other: Spread) -> Spread:
        """Median against median. Runs of two figures are no pairs, so the range is the widest that
        they allow: our lowest against their highest, and the other way round."""
        return Spread(self.low / other.high, self.median / other.median, self.high / other.low)


@dataclass(frozen=True, slots=True)
class Run:
    seconds: float
    at: float  # seconds since 1970
    figures: dict[str, Any]


class Recording:
    """The last measurement of each figure: the lines since its last first run."""

    def __init__(self, takes: dict[str, list[Run]]) -> None:
        self._takes = takes

    @classmethod
    def read(cls, file: Path) -> Recording:
        takes: dict[str, list[Run]] = {}
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
            try:
                record = json.loads(line)
                run = Run(record["seconds"], record["at"], record["figures"])
                if record["run"] == 1:
                    takes[record["figure"]] = []
                takes[record["figure"]].append(run)
            except (ValueError, KeyError, TypeError) as error:
                raise UnreadableRecording(f"{file}, line {number} is not a run: {error}") from error
        return cls(takes)

    def figures(self) -> list[str]:
        return list(self._takes)

    def runs(self, figure: str) -> list[Run]:
        return self._takes.get(figure, [])

    def spread(self, figure: str, *paths: str) -> Spread | None:
        """Of the lowest of these numbers in each run, such as `ack_ms.p50`; None unless every run
        has them all."""
        lowest: list[float] = []
        for run in self.runs(figure):
            found = dict(leaves(run.figures))
            numbers = [found[path] for path in paths if isinstance(found.get(path), (int, float))]
            if len(numbers) != len(paths):
                return None
            lowest.append(min(numbers))
        return Spread(min(lowest), statistics.median(lowest), max(lowest)) if lowest else None


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each number or text, with the way to it: ("ack_ms.p50", 3.7)."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from leaves(member, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for number, member in enumerate(value):
            yield from leaves(member, f"{path}.{number}")
    else:
        yield path, value


def in_digits(value: float) -> str:
    """The three that count: 0.0123, 4.2, 21.2; of large numbers all: 3 986."""
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.3g}"
