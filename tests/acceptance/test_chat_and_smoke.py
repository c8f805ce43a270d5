"""scripts/chat and scripts/smoke as people run them, against both services."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.chat import printable
from tests.support.cluster import clean_environment
from tests.support.databases import Database
from tests.support.processes import ROOT, Processes, free_port
from tests.support.stack import PASSWORD, Gateway, Stack


@pytest.fixture
def stack(database: Database, processes: Processes) -> Stack:
    stack = Stack(database, processes)
    stack.start_api()
    return stack


class Chat:
    """A running scripts/chat whose keyboard is ours."""

    def __init__(self, stack: Stack, gateway: Gateway, name: str, folder: Path) -> None:
        password = folder / "password"
        password.write_text(PASSWORD + "\n", "utf-8")
        self.output: list[str] = []
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "scripts.chat", stack.api_url, "--ws-url", gateway.url),
                *("--email", f"{name}@example.org", "--register", "--name", name),
                *("--password-file", str(password)),
            ],
            cwd=ROOT,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def type(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def wait_for(self, text: str) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output.append(line.rstrip("\n"))
            if text in line:
                return
        raise AssertionError(f"no {text!r} in {self.output}")

    def leave(self) -> int:
        """Ctrl-D."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self.output += self._process.stdout.read().splitlines()
        self._process.stdout.close()
        return self._process.wait(20)


def smoke(stack: Stack, ws_url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.smoke", stack.api_url, ws_url],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


class TestChat:
    def test_two_people_talk_over_two_gateways_and_a_third_reads_it_later(
        self, stack: Stack, tmp_path: Path
    ) -> None:
        first, second = stack.start_gateway(), stack.start_gateway()
        ann, bob = (
            Chat(stack, first, "Ann", tmp_path),
            Chat(stack, second, "Bob", tmp_path),
        )
        ann.wait_for("you are in")
        bob.wait_for("you are in")
        ann.type("hello Bob")
        bob.wait_for("Ann: hello Bob")
        bob.type("hello Ann")
        ann.wait_for("Bob: hello Ann")
        assert ann.leave() == 0
        assert bob.leave() == 0
        carol = Chat(stack, first, "Carol", tmp_path)
        carol.wait_for("Ann: hello Bob")
        carol.wait_for("Bob: hello Ann")
        assert carol.leave() == 0

    def test_it_comes_back_when_its_gateway_was_killed(self, stack: Stack, tmp_path: Path) -> None:
        gateway = stack.start_gateway()
        ann = Chat(stack, gateway, "Ann", tmp_path)
        ann.wait_for("you are in")
        gateway.process.kill()
        ann.wait_for("* offline")
        ann.type("typed while it was away")
        stack.start_gateway(gateway.port)
        ann.wait_for("Ann: typed while it was away")
        assert ann.leave() == 0

    def test_what_others_write_cannot_move_the_cursor(self) -> None:
        assert printable("a\x1b[2Jb\u202ec\r\n") == "a\ufffd[2Jb\ufffdc\ufffd\ufffd"
        assert printable("naïve ☕ 汉字") == "naïve ☕ 汉字"

    def test_an_api_that_is_not_there_is_one_line(self, tmp_path: Path) -> None:
        password = tmp_path / "password"
        password.write_text("x", "utf-8")
        url = f"http://127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "scripts.chat", url, "--email", "a@example.org"]
        done = subprocess.run(
            [*command, "--password-file", str(password)],
            cwd=ROOT,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert url in done.stderr


class TestSmoke:
    def test_every_step_passes(self, stack: Stack) -> None:
        done = smoke(stack, stack.start_gateway().url)
        assert done.returncode == 0, done.stdout
        assert done.stdout.count("ok  ") == 12
        assert "all steps passed" in done.stdout

    def test_a_gateway_that_is_not_there_fails_the_step_by_name(self, stack: Stack) -> None:
        done = smoke(stack, f"ws://127.0.0.1:{free_port()}/ws")
        assert done.returncode == 1
        assert "FAILED  socket" in done.stdout

    def test_sockets_that_outlive_their_session_are_noticed(self, stack: Stack) -> None:
        gateway = stack.start_gateway(WS_UNVERIFIED_MAX_SECONDS="3600")
        with stack.database.connect() as owner:
            # As if the gateway could neither hear of a revocation nor look for one.
            owner.execute("DROP TRIGGER sessions_updated ON user_sessions")
            owner.execute("REVOKE SELECT ON live_sessions FROM gatehouse_gateway")
        done = smoke(stack, gateway.url)
        assert done.returncode == 1
        assert "FAILED  socket ends" in done.stdout

    def test_too_few_arguments_are_a_usage_line(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "scripts.smoke"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (2, "usage: scripts/smoke API_URL WS_URL\n")
