"""scripts/chat and scripts/smoke as people run them, against both services."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import clean_environment
from tests.support.databases import Database
from tests.support.ports import free_port
from tests.support.processes import ROOT, Processes, ServiceProcess
from tests.support.pseudo_terminal import PseudoTerminal
from tests.support.stack import PASSWORD, Stack

CHAT = (sys.executable, "-m", "scripts.chat")


@pytest.fixture
def stack(database: Database, processes: Processes) -> Stack:
    stack = Stack(database, processes)
    stack.start_api()
    return stack


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n", "utf-8")
    return file


class Chats:
    """Starts scripts/chat as new people, and ends at the end those that are left."""

    def __init__(self, stack: Stack, password_file: Path) -> None:
        self._stack = stack
        self._password_file = password_file
        self._started: list[Chat] = []

    def arguments(self, name: str, ws_url: str) -> list[str]:
        return [
            *(*CHAT, self._stack.api_url, "--ws-url", ws_url),
            *("--email", f"{name}@example.org", "--register", "--name", name),
            *("--password-file", str(self._password_file)),
        ]

    def start(self, name: str, ws_url: str) -> Chat:
        chat = Chat(self.arguments(name, ws_url))
        self._started.append(chat)
        return chat

    def piped(self, name: str, ws_url: str, text: str) -> subprocess.CompletedProcess[str]:
        return run(self.arguments(name, ws_url), text)

    def close(self) -> None:
        for chat in self._started:
            chat.kill()


@pytest.fixture
def chats(stack: Stack, password_file: Path) -> Iterator[Chats]:
    chats = Chats(stack, password_file)
    yield chats
    chats.close()


class Chat:
    """A running scripts/chat whose keyboard is a pipe of ours."""

    def __init__(self, command: list[str]) -> None:
        self.output: list[str] = []
        self._process = subprocess.Popen(
            command,
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
        return self._process.wait(20)

    def terminate(self) -> int:
        self._process.terminate()
        return self._process.wait(20)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def messages(self) -> list[str]:
        """Without their seqs."""
        return [line[7:] for line in self.output if re.match(r" *\d+  ", line)]


def run(command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env=clean_environment(),
        input=text,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def smoke(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "scripts.smoke", *arguments])


def live_sessions(stack: Stack) -> int:
    with stack.database.connect() as owner:
        rows = owner.execute("SELECT count(*) FROM user_sessions WHERE revoked_at IS NULL")
        return int(rows.fetchall()[0][0])


class TestChat:
    def test_two_people_talk_over_two_gateways_and_a_third_reads_it_later(
        self, stack: Stack, chats: Chats
    ) -> None:
        first, second = stack.start_gateway(), stack.start_gateway()
        ann, bob = chats.start("Ann", first.url), chats.start("Bob", second.url)
        ann.wait_for("you are in")
        bob.wait_for("you are in")
        ann.type("hello Bob")
        bob.wait_for("Ann: hello Bob")
        bob.type("hello Ann")
        ann.wait_for("Bob: hello Ann")
        assert (ann.leave(), bob.leave()) == (0, 0)
        carol = chats.start("Carol", first.url)
        carol.wait_for("Ann: hello Bob")
        carol.wait_for("Bob: hello Ann")
        assert carol.leave() == 0
        assert live_sessions(stack) == 0  # everybody was logged out on leaving

    def test_two_people_talk_among_themselves(self, stack: Stack, chats: Chats) -> None:
        gateway = stack.start_gateway()
        bob = chats.start("Bob", gateway.url)
        bob.wait_for("you are in")
        ann = [*chats.arguments("Ann", gateway.url), "--to", "Bob"]
        done = run(ann, "between us\n")
        assert (done.returncode, "Ann: between us" in done.stdout) == (0, True), done.stdout
        assert bob.leave() == 0
        assert not any("between us" in line for line in bob.output)  # Bob was on Global

    @pytest.mark.parametrize(("namesakes", "line"), [(0, "no people"), (2, "several people")])
    def test_a_name_that_is_nobodys_or_of_several_is_written_to_by_none(
        self, stack: Stack, chats: Chats, namesakes: int, line: str
    ) -> None:
        async def register() -> None:
            for _ in range(namesakes):
                await stack.person("Eve")

        asyncio.run(register())
        done = run([*chats.arguments("Ann", "ws://127.0.0.1:9/ws"), "--to", "Eve"], "hello\n")
        assert (done.returncode, done.stderr) == (1, f"chat: {line} are called Eve\n")
        assert live_sessions(stack) == namesakes

    def test_one_whose_gateway_was_killed_resumes_and_misses_nothing(
        self, stack: Stack, chats: Chats
    ) -> None:
        first, second = stack.start_gateway(), stack.start_gateway()
        ann, bob = chats.start("Ann", first.url), chats.start("Bob", second.url)
        ann.wait_for("you are in")
        bob.wait_for("you are in")
        ann.type("one")
        ann.wait_for("Ann: one")
        bob.wait_for("Ann: one")
        first.process.kill()
        ann.wait_for("* offline")
        bob.type("two")
        bob.wait_for("Bob: two")
        ann.type("three")
        stack.start_gateway(first.port)
        ann.wait_for("* online again, resuming after 1")
        ann.wait_for("Ann: three")
        bob.wait_for("Ann: three")
        assert (ann.leave(), bob.leave()) == (0, 0)
        assert ann.messages() == bob.messages() == ["Ann: one", "Bob: two", "Ann: three"]

    def test_a_gateway_of_two_processes_serves_both(self, stack: Stack, chats: Chats) -> None:
        gateway = stack.start_gateway(WS_PROCESSES="2")
        people = [chats.start(f"P{number}", gateway.url) for number in range(4)]
        for person in people:
            person.wait_for("you are in")
        assert gateway_processes(gateway.process) == 2
        people[0].type("hello everybody")
        for person in people:
            person.wait_for("P0: hello everybody")
        assert [person.leave() for person in people] == [0] * 4

    def test_a_pipe_is_said_and_acknowledged_line_by_line(self, stack: Stack, chats: Chats) -> None:
        said = chats.piped("Ann", stack.start_gateway().url, "one\n\ntwo\nno line end")
        assert said.returncode == 0, said.stderr
        assert re.findall(r"Ann: (.*)", said.stdout) == ["one", "two", "no line end"]
        assert said.stderr == ""

    def test_who_types_too_fast_is_slowed_down_and_loses_nothing(
        self, stack: Stack, chats: Chats
    ) -> None:
        limits = stack.start_gateway(
            CHAT_WRITE_RATE_LIMIT_MAX_PER_ACCOUNT="3",
            CHAT_WRITE_RATE_LIMIT_WINDOW_SECONDS="2",
            CHAT_WRITE_RATE_LIMIT_LOCKOUT_SECONDS="2",
        )
        said = chats.piped("Ann", limits.url, "".join(f"{n}\n" for n in range(5)))
        assert said.returncode == 0, said.stderr
        assert re.findall(r"Ann: (.*)", said.stdout) == [str(n) for n in range(5)]
        assert "* too fast" in said.stdout

    def test_a_line_that_cannot_be_sent_is_told(self, stack: Stack, chats: Chats) -> None:
        said = chats.piped("Ann", stack.start_gateway().url, "x" * 2001 + "\ngood\n")
        assert said.returncode == 1
        assert "* not sent: content must have 1 to 2000 characters" in said.stdout
        assert "Ann: good" in said.stdout

    def test_what_others_write_does_not_reach_the_terminal_raw(
        self, stack: Stack, chats: Chats
    ) -> None:
        gateway = stack.start_gateway()
        said = chats.piped("Eve", gateway.url, "red \x1b[31m and \u202e back\n")
        assert "Eve: red \ufffd[31m and \ufffd back" in said.stdout
        assert "\x1b" not in said.stdout

    def test_sigterm_logs_out(self, stack: Stack, chats: Chats) -> None:
        ann = chats.start("Ann", stack.start_gateway().url)
        ann.wait_for("you are in")
        assert ann.terminate() == 0
        assert live_sessions(stack) == 0


class TestChatInATerminal:
    def test_it_asks_keeps_the_line_being_typed_and_gives_the_terminal_back(
        self, stack: Stack, chats: Chats
    ) -> None:
        gateway = stack.start_gateway()
        command = [*CHAT, stack.api_url, "--ws-url", gateway.url]
        with PseudoTerminal(command, clean_environment(), ROOT) as terminal:
            terminal.wait_for("e-mail: ")
            terminal.press("ann@example.org\n")
            terminal.wait_for("do you have an account? [y/n] ")
            terminal.press("n\n")
            terminal.wait_for("password: ")
            terminal.press(PASSWORD + "\n")
            terminal.wait_for("display name: ")
            terminal.press("Ann\n")
            terminal.wait_for("you are in")
            assert PASSWORD not in terminal.screen
            terminal.press("half a li")
            terminal.wait_for("> half a li")
            chats.piped("Bob", gateway.url, "hello\n")
            terminal.wait_for("\r\x1b[K    1  Bob: hello\r\n")
            terminal.wait_for("> half a li")
            terminal.press("\x7f\x7fline\n")
            terminal.wait_for("    2  Ann: half a line\r\n")
            terminal.press("\x04")
            assert terminal.wait() == 0
            assert terminal.settings == terminal.settings_before
        assert live_sessions(stack) == 0

    def test_ctrl_c_ends_a_question_and_a_conversation(self, stack: Stack, chats: Chats) -> None:
        command = [*CHAT, stack.api_url]
        with PseudoTerminal(command, clean_environment(), ROOT) as terminal:
            terminal.wait_for("e-mail: ")
            assert terminal.interrupt() == 0
        gateway = stack.start_gateway()
        with PseudoTerminal(
            chats.arguments("Ann", gateway.url), clean_environment(), ROOT
        ) as terminal:
            terminal.wait_for("you are in")
            terminal.press("never sent")
            terminal.wait_for("> never sent")
            assert terminal.interrupt() == 0
            assert terminal.settings == terminal.settings_before
            assert "Traceback" not in terminal.screen
        assert live_sessions(stack) == 0


class TestChatThatCannotStart:
    def test_an_api_that_is_not_there_is_one_line(self, password_file: Path) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        command = [*CHAT, url, "--email", "a@example.org", "--password-file", str(password_file)]
        self.assert_one_line(run(command), url)

    def test_a_wrong_password_is_one_line(self, stack: Stack, password_file: Path) -> None:
        command = [*CHAT, stack.api_url, "--email", "nobody@example.org"]
        done = run([*command, "--password-file", str(password_file)])
        self.assert_one_line(done, "The e-mail or the password is wrong.")

    def test_a_password_file_that_is_not_there_is_one_line(self, tmp_path: Path) -> None:
        missing = str(tmp_path / "missing")
        done = run([*CHAT, "--email", "a@example.org", "--password-file", missing])
        self.assert_one_line(done, missing)

    def test_without_a_terminal_there_is_nobody_to_ask(self) -> None:
        self.assert_one_line(run([*CHAT]), "--email and --password-file are needed")

    def test_a_gateway_address_that_cannot_be_right_is_one_line(
        self, stack: Stack, chats: Chats
    ) -> None:
        wrong = chats.piped("Ann", stack.start_gateway().url + "/wrong", "hello\n")
        self.assert_one_line(wrong, "HTTP 404")

    def assert_one_line(self, done: subprocess.CompletedProcess[str], text: str) -> None:
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert line.startswith("chat: ")
        assert text in line


class TestSmoke:
    def test_every_step_passes_and_nobody_is_left_logged_in(self, stack: Stack) -> None:
        done = smoke(stack.api_url, stack.start_gateway().url)
        assert done.returncode == 0, done.stdout
        assert done.stdout.count("ok  ") == 12
        assert re.search(r"^all steps passed in \d+ ms$", done.stdout, re.MULTILINE)
        assert live_sessions(stack) == 0

    def test_an_api_that_is_not_there_is_named(self) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        self.assert_fails(smoke(url, "ws://127.0.0.1:1/ws"), "register", url)

    def test_a_gateway_that_is_not_there_is_named(self, stack: Stack) -> None:
        url = f"ws://127.0.0.1:{free_port()}/ws"
        self.assert_fails(smoke(stack.api_url, url), "socket", url)
        assert live_sessions(stack) == 1  # the one that was logged in; it could not log out

    def test_something_that_is_no_gatehouse_is_named(
        self, stack: Stack, processes: Processes
    ) -> None:
        port = free_port()
        server = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
        processes.start(server, {}).wait_for_line("Serving HTTP")
        self.assert_fails(smoke(f"http://127.0.0.1:{port}", "ws://127.0.0.1:1/ws"), "register", "")
        url = f"ws://127.0.0.1:{port}/ws"
        self.assert_fails(smoke(stack.api_url, url), "socket", url)

    def test_sockets_that_outlive_their_session_are_noticed(self, stack: Stack) -> None:
        gateway = stack.start_gateway(WS_UNVERIFIED_MAX_SECONDS="3600")
        with stack.database.connect() as owner:
            # As if the gateway could neither hear of a revocation nor look for one.
            owner.execute("DROP TRIGGER sessions_updated ON user_sessions")
            owner.execute("REVOKE SELECT ON live_sessions FROM gatehouse_gateway")
        self.assert_fails(smoke(stack.api_url, gateway.url), "socket ends", "not done within")

    def test_a_server_that_stores_something_else_is_noticed(self, stack: Stack) -> None:
        gateway = stack.start_gateway()
        with stack.database.connect() as owner:
            owner.execute(
                "CREATE FUNCTION garble() RETURNS trigger LANGUAGE plpgsql AS"
                " $$BEGIN NEW.content := 'garbled'; RETURN NEW; END$$"
            )
            owner.execute(
                "CREATE TRIGGER garbles BEFORE INSERT ON chat_messages"
                " FOR EACH ROW EXECUTE FUNCTION garble()"
            )
        self.assert_fails(smoke(stack.api_url, gateway.url), "send and ack", "")

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            ((), "usage: scripts/smoke API_URL WS_URL"),
            (("localhost", "ws://127.0.0.1:1/ws"), "smoke: not an API address: 'localhost'"),
        ],
    )
    def test_wrong_arguments_are_one_line(self, arguments: tuple[str, ...], line: str) -> None:
        done = smoke(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith(line)
        assert len(done.stderr.splitlines()) == 1

    def assert_fails(self, done: subprocess.CompletedProcess[str], step: str, what: str) -> None:
        assert done.returncode == 1, done.stdout
        failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
        assert len(failed) == 1
        assert failed[0].startswith(f"FAILED  {step}: ")
        assert what in failed[0]
        assert done.stderr == ""


def gateway_processes(process: ServiceProcess) -> int:
    """How many processes of a gateway have said that they serve."""
    serving = [entry for entry in process.log if "serving on" in str(entry.get("message"))]
    return len(serving)
