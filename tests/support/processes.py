"""Services and scripts as real processes: started, awaited, read, stopped or killed by a test."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from scripts.leash import leashed
from tests.support.cluster import clean_environment
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
_READY_SECONDS = 30.0
_STOP_SECONDS = 15.0


class ServiceProcess:
    """One running process and the lines it has written (stdout and stderr together)."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._popen = subprocess.Popen(
            leashed(command, signal.SIGKILL),  # a killed test run leaves nothing behind
            cwd=cwd,
            env={**clean_environment(), "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        return self._popen.poll()

    @property
    def output(self) -> str:
        with self._news:
            return "\n".join(self.lines)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines that are JSON objects: the log of a service."""
        with self._news:
            lines = list(self.lines)
        entries = []
        for line in lines:
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    entries.append(entry)
        return entries

    def wait_for_line(self, text: str, seconds: float = _READY_SECONDS) -> str:
        """The first line that contains `text`, past or future; fails when none comes."""
        deadline = time.monotonic() + seconds
        seen = 0
        with self._news:
            while True:
                for line in self.lines[seen:]:
                    if text in line:
                        return line
                seen = len(self.lines)
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not (self._reader.is_alive() or self._news.wait(0)):
                    raise AssertionError(f"no line with {text!r} came; output:\n{self._joined()}")
                self._news.wait(min(remaining, 0.1))

    def wait_until_ready(self, port: int, seconds: float = _READY_SECONDS) -> None:
        """Polls GET /health/ready on the loopback address until it answers 200."""
        deadline = time.monotonic() + seconds
        while not answers_ready(port):
            if self._popen.poll() is not None:
                self._reader.join(5)
                raise AssertionError(f"ended with {self.returncode} instead:\n{self.output}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not ready after {seconds} s:\n{self.output}")
            time.sleep(0.02)

    def send_signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def wait(self, seconds: float = _STOP_SECONDS) -> int:
        """Waits for the end; returns the exit code, negative for a signal."""
        try:
            code = self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s:\n{self.output}") from None
        self._reader.join(5)
        return code

    def stop(self, seconds: float = _STOP_SECONDS) -> int:
        """SIGTERM, and the exit code."""
        self._popen.terminate()
        return self.wait(seconds)

    def kill(self) -> None:
        """SIGKILL, and waits until the process is gone."""
        self._popen.kill()
        self._popen.wait()
        self._reader.join(5)

    def close(self) -> None:
        """Ends the process by whatever it takes and frees what belongs to it here."""
        if self._popen.poll() is None:
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(_STOP_SECONDS)
        # Also what the process has started and left: it leads a process group of its own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        self._reader.join(5)
        if self._popen.stdout and not self._reader.is_alive():
            self._popen.stdout.close()

    def _read(self) -> None:
        if self._popen.stdout is None:
            raise AssertionError("started without a pipe")
        for line in self._popen.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()

    def _joined(self) -> str:
        return "\n".join(self.lines)


class Processes:
    """Starts processes and remembers them, so that none outlives its test."""

    def __init__(self) -> None:
        self._started: list[ServiceProcess] = []

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], cwd: Path = ROOT
    ) -> ServiceProcess:
        process = ServiceProcess(command, environment, cwd)
        self._started.append(process)
        return process

    def start_module(
        self, module: str, environment: Mapping[str, str], *arguments: str
    ) -> ServiceProcess:
        """`python -m module`; does not wait."""
        return self.start([sys.executable, "-m", module, *arguments], environment)

    def start_service(
        self, module: str, environment: Mapping[str, str], port: int | None = None
    ) -> tuple[ServiceProcess, int]:
        """A service on a free loopback port, ready; returns it and its port."""
        port = port or free_port()
        place = {"HOST": "127.0.0.1", "PORT": str(port)}
        process = self.start_module(module, {**place, **environment})
        process.wait_until_ready(port)
        return process, port

    def close(self) -> None:
        started, self._started = self._started, []
        for process in started:  # all at once: each may take its time to go
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        for process in started:
            process.close()

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def answers_ready(port: int) -> bool:
    """Whether GET /health/ready on a loopback port answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_until(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """Polls until `condition` holds; fails with `what` when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)
