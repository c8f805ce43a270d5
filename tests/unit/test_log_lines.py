"""The log: one JSON object a line, whatever is said, and the entries of a channel's log."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules import log_lines
from rules.log_lines import JsonFormatter, configure_logging, trace_name
from tests.support.fuzz import FEW

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def line(message: str, *arguments: object, **extra: Any) -> str:
    record = logging.LogRecord(
        "gatehouse.test", logging.WARNING, "", 0, message, arguments, extra.pop("exc_info", None)
    )
    record.__dict__.update(extra)
    return JsonFormatter().format(record)


@pytest.fixture
def in_a_request() -> Iterator[None]:
    request, trace = (
        log_lines.request_id.set("request-1"),
        log_lines.trace.set(f"projects/p/{TRACE}"),
    )
    yield
    log_lines.request_id.reset(request)
    log_lines.trace.reset(trace)


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    loggers = [logging.getLogger(name) for name in ("websockets", "waitress", "psycopg", "asyncio")]
    loggers.append(logging.getLogger("waitress.queue"))
    levels = [logger.level for logger in loggers]
    yield
    root.handlers[:], root.level = before
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


class TestALine:
    def test_it_has_what_cloud_logging_reads(self) -> None:
        said = json.loads(line("%s refused", "login"))
        assert (said["severity"], said["message"]) == ("WARNING", "login refused")
        assert said["logger"] == "gatehouse.test"
        age = datetime.now(UTC) - datetime.fromisoformat(said["time"])
        assert 0 <= age.total_seconds() < 60
        assert set(said) == {"severity", "message", "time", "logger"}

    @pytest.mark.usefixtures("in_a_request")
    def test_what_a_request_causes_carries_its_id_and_its_trace(self) -> None:
        said = json.loads(line("x"))
        assert said["request_id"] == "request-1"
        assert said["logging.googleapis.com/trace"] == f"projects/p/{TRACE}"

    def test_fields_stand_beside_the_message(self) -> None:
        said = json.loads(line("x", fields={"status": 200, "ip": UUID(int=1)}))
        assert (said["status"], said["ip"]) == (200, str(UUID(int=1)))

    def test_an_exception_stays_within_its_line(self) -> None:
        try:
            raise ValueError("first\nsecond")
        except ValueError:
            text = line("failed", exc_info=sys.exc_info())
        assert "\n" not in text
        assert json.loads(text)["exception"].endswith("ValueError: first\nsecond")

    @FEW
    @given(message=st.text(st.characters(codec=None) | st.sampled_from("\r\n\x00\x85\u2028\ud800")))
    def test_nothing_that_is_said_breaks_the_line_or_cannot_be_written(self, message: str) -> None:
        text = line("%s", message, fields={"field": message})
        assert len(text.splitlines()) == 1
        assert text.encode("ascii")
        said = json.loads(text)
        assert said["message"] == said["field"] == message


@pytest.mark.usefixtures("logging_as_before")
class TestConfiguring:
    def test_ours_is_heard_from_info_up_and_a_librarys_from_warning_up(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        configure_logging()
        logging.getLogger("gatehouse.api").info("ours")
        logging.getLogger("gatehouse.api").debug("whispered")
        for library in ("websockets.server", "waitress", "psycopg.pool", "asyncio"):
            logging.getLogger(library).info("GET /ws?ticket=abc")
            logging.getLogger(library).warning("theirs")
        logging.getLogger("waitress.queue").warning("Task queue depth is 1")
        written = capsys.readouterr()
        messages = [json.loads(text)["message"] for text in written.out.splitlines()]
        assert messages == ["ours"] + ["theirs"] * 4
        assert written.err == ""


class TestTraces:
    @pytest.mark.parametrize("header", [TRACE, f"{TRACE}/1", f"{TRACE}/123;o=1"])
    def test_the_header_names_the_trace(self, header: str) -> None:
        assert trace_name(header, "p") == f"projects/p/traces/{TRACE}"

    @pytest.mark.parametrize("header", [None, "", "/1", TRACE[1:], TRACE.upper(), f"{TRACE}x"])
    def test_another_header_names_none(self, header: str | None) -> None:
        assert trace_name(header, "p") is None

    def test_without_a_project_there_is_none(self) -> None:
        assert trace_name(TRACE, None) is None
