"""A runner from the scenario's side: ask and get an answer, or begin and finish later."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.cluster import clean_environment

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 45.0


class Actor(ABC):
    """One runner. Answers may come in any order."""

    def __init__(self) -> None:
        self._number = 0
        self._answers: dict[int, dict[str, Any]] = {}

    def ask(self, do: str, who: str, **members: Any) -> dict[str, Any]:
        return self.finish(self.begin(do, who, **members))

    def begin(self, do: str, who: str, **members: Any) -> int:
        self._number += 1
        self._send(self._number, {"do": do, "who": who, **members})
        return self._number

    def finish(self, number: int) -> dict[str, Any]:
        """The answer to a command that was begun; fails when it does not come."""
        deadline = time.monotonic() + SECONDS
        while number not in self._answers:
            received = self._receive(deadline - time.monotonic())
            self._answers.update(received)
        return self._answers.pop(number)

    def events(self, who: str, *kinds: str) -> list[dict[str, Any]]:
        """What its live connection has told so far."""
        events: list[dict[str, Any]] = self.ask("events", who)["events"]
        return [event for event in events if not kinds or event["type"] in kinds]

    def wait_for(
        self, who: str, what: str, condition: Callable[[list[dict[str, Any]]], object]
    ) -> list[dict[str, Any]]:
        """The events, as soon as the condition holds of them."""
        deadline = time.monotonic() + SECONDS
        while not condition(events := self.events(who)):
            assert time.monotonic() < deadline, f"{who}: not {what}; events: {events}"
            time.sleep(0.05)
        return events

    @abstractmethod
    def _send(self, number: int, command: dict[str, Any]) -> None: ...

    @abstractmethod
    def _receive(self, seconds: float) -> dict[int, dict[str, Any]]:
        """What has been answered, at least one; AssertionError when nothing is in time."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Actor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class ProgramActor(Actor):
    """A runner that is a program of its own: a JSON object a line, both ways."""

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__()
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _send(self, number: int, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"number": number, **command}) + "\n")
        self._process.stdin.flush()

    def _receive(self, seconds: float) -> dict[int, dict[str, Any]]:
        try:
            line = self._lines.get(timeout=max(0.0, seconds))
        except queue.Empty:
            raise AssertionError("the runner does not answer") from None
        assert line is not None, "the runner has ended"
        received = json.loads(line)
        return {received["number"]: received["answer"]}

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)
        self._process.stdout.close()
