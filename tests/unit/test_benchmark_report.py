"""The table of docs/performance.md, from made-up runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.recording import Recording, UnreadableRecording
from benchmarks.report import BEGIN, DOCUMENT, END, between_the_markers, table

AGAINST_WS = "against Node ws + pg"


def recorded(folder: Path, *takes: tuple[str, list[dict[str, Any]]]) -> Recording:
    """Each take is a figure's name and what its runs found."""
    lines = [
        {"figure": figure, "run": number, "seconds": 30.0, "at": 1795535133, "figures": figures}
        for figure, runs in takes
        for number, figures in enumerate(runs, 1)
    ]
    file = folder / "runs.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Recording.read(file)


def saturated(*stored: float, delivered: float = 1e6, **more: float) -> list[dict[str, Any]]:
    return [
        {
            "stored_per_second": each,
            "delivered_per_member_per_second": min(each, delivered),
            **more,
        }
        for each in stored
    ]


def row(text: str, *words: str) -> list[str]:
    """The cells of the one row with these words in it."""
    (line,) = [line for line in text.splitlines() if all(word in line for word in words)]
    return [cell.strip() for cell in line.strip("|").split("|")]


class TestARatio:
    def test_is_median_against_median_with_the_widest_range(self, tmp_path: Path) -> None:
        recording = recorded(
            tmp_path,
            ("saturation", saturated(4400, 4000, 5000)),
            ("saturation-of-ws-pg", saturated(1000, 1100, 800)),
        )
        cells = row(table(recording), "at saturation", AGAINST_WS)
        assert cells[3] == "4.4 (3.64 to 6.25); 4 400 against 1 000 messages/s"
        assert cells[4:] == ["3 x 30 s", "yes"]

    def test_counts_what_was_delivered_when_that_is_less(self, tmp_path: Path) -> None:
        recording = recorded(
            tmp_path,
            ("saturation", saturated(4400, delivered=2000)),
            ("saturation-of-ws-pg", saturated(1000)),
        )
        assert row(table(recording), "at saturation", AGAINST_WS)[3].startswith("2 (2 to 2)")

    def test_below_its_goal_is_said_not_to_be_reached(self, tmp_path: Path) -> None:
        recording = recorded(
            tmp_path,
            ("saturation", saturated(3999)),
            ("saturation-of-ws-pg", saturated(1000)),
        )
        cells = row(table(recording), "at saturation", AGAINST_WS)
        assert cells[3].startswith("4 (")
        assert cells[5] == "**no**"


class TestANumber:
    @pytest.mark.parametrize(
        ("kilobytes", "reached"), [((19, 20, 30), "yes"), ((19, 20.1, 20.2), "**no**")]
    )
    def test_is_judged_by_its_median(
        self, tmp_path: Path, kilobytes: tuple[float, ...], reached: str
    ) -> None:
        runs = [{"kilobytes_a_socket": each, "members": 2000} for each in kilobytes]
        recording = recorded(tmp_path, ("memory-of-a-socket", runs))
        assert row(table(recording), "memory")[5] == reached

    def test_that_was_measured_again_replaces_the_first(self, tmp_path: Path) -> None:
        recording = recorded(
            tmp_path,
            ("memory-of-a-socket", [{"kilobytes_a_socket": each} for each in (31, 32, 33)]),
            ("memory-of-a-socket", [{"kilobytes_a_socket": each} for each in (11, 12)]),
        )
        assert row(table(recording), "memory")[3:5] == ["11.5 (11 to 12) KB", "2 x 30 s"]


class TestWhatIsMissing:
    def test_everything(self, tmp_path: Path) -> None:
        lines = table(recorded(tmp_path)).splitlines()
        assert all("| not measured: `" in line for line in lines[2:])
        assert not any("yes" in line or "**no**" in line for line in lines)

    def test_a_peer_alone_is_named(self, tmp_path: Path) -> None:
        recording = recorded(tmp_path, ("saturation", saturated(4000)))
        cells = row(table(recording), "against ejabberd")
        assert cells[3:] == ["not measured: `saturation-of-ejabberd`", "", ""]

    def test_a_number_that_a_run_has_not_got(self, tmp_path: Path) -> None:
        recording = recorded(tmp_path, ("revocation", [{"one_alone": {"close_ms": {"count": 0}}}]))
        assert row(table(recording), "the same, one alone")[3] == "not measured: `revocation`"

    def test_a_peer_that_did_nothing_has_no_ratio(self, tmp_path: Path) -> None:
        recording = recorded(
            tmp_path, ("saturation", saturated(4000)), ("saturation-of-ws-pg", saturated(0))
        )
        cells = row(table(recording), "at saturation", AGAINST_WS)
        assert cells[3:] == ["not measured: no ratio", "", ""]


def test_a_run_that_speaks_against_itself_is_named(tmp_path: Path) -> None:
    recording = recorded(
        tmp_path,
        ("saturation", saturated(4000, 4100, busy=0.95, closed=1)),
        ("bearer-get", [{"per_second": 900, "statuses": {"200": 20, "503": 7}}]),
        ("admissions", [{"with_ticket": {"refusals": {"server_full": 3}, "busy": 0.3}}]),
    )
    doubts = [line for line in table(recording).splitlines() if line.startswith("- ")]
    assert doubts == [
        "- `saturation`: the load generator was the bottleneck, so this is a lower bound.",
        "- `saturation`: members were thrown out.",
        "- `bearer-get`: some answers were 503.",
        "- `admissions`: some was refused.",
    ]


def test_a_line_that_is_no_run_is_named(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    file.write_text('{"figure": "saturation", "run"')
    with pytest.raises(UnreadableRecording, match=r"line 1 is not a run"):
        Recording.read(file)


def test_the_text_around_the_markers_stays() -> None:
    document = DOCUMENT.read_text("utf-8")
    written = between_the_markers(between_the_markers(document, "old"), "new")
    assert written.partition(BEGIN)[0] == document.partition(BEGIN)[0]
    assert written.partition(END)[2] == document.partition(END)[2]
    assert written.partition(BEGIN)[2].partition(END)[0] == "\n\nnew\n\n"
