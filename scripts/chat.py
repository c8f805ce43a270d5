"""A chat in the terminal, on the channel Global: it reconnects and resumes by itself.

    scripts/chat [API_URL] [--email E] [--register] [--name N] [--channel ID] [--password-file F]
                 [--client-version V]

What is not given is asked for. Lines from standard input, a terminal or a pipe, are sent; Ctrl-D or
Ctrl-C ends it. In a drain it acknowledges as soon as every line has been stored. Exit codes: 0, or
1 when something typed could not be sent or nobody can be reached.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import getpass
import os
import signal
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from gatehouse_client import ApiError, Client, Live, LiveEnded, SendRefused
from scripts.chat_terminal import Terminal
from scripts.chat_text import line_of, printable

HISTORY = 20
LOGOUT_SECONDS = 3.0
# How long a line that was typed last may take from its ack to the screen.
ECHO_SECONDS = 2.0


class CannotStart(Exception):
    """What was given on the command line does not do; the message says why."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """`display_name` makes it a new account."""

    email: str
    password: str
    display_name: str | None


def main(arguments: list[str]) -> int:
    options = _parse(arguments)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character shows its number.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        return asyncio.run(_chat(options, _credentials(options)))
    except (KeyboardInterrupt, EOFError, asyncio.CancelledError):
        return 0
    except CannotStart as error:
        _complain(str(error))
    except ApiError as error:
        _complain(error.message)
    except (LiveEnded, SendRefused) as error:
        _complain(f"the connection ended: {error}")
    except BrokenPipeError:
        # Nobody reads us any more; nor may the interpreter try to write what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _complain(f"{options.api_url} cannot be reached: {str(error) or type(error).__name__}")
    return 1


def _parse(arguments: list[str]) -> argparse.Namespace:
    port = os.environ.get("GATEHOUSE_API_PORT") or "8000"
    parser = argparse.ArgumentParser(prog="scripts/chat", description="Chat in the terminal.")
    parser.add_argument("api_url", nargs="?", default=f"http://127.0.0.1:{port}")
    parser.add_argument("--ws-url", help="instead of the one that the API names")
    parser.add_argument("--email")
    parser.add_argument("--name", help="display name, when registering")
    parser.add_argument("--register", action="store_true", help="make a new account")
    parser.add_argument("--password-file", type=Path, help="a file with the password")
    parser.add_argument("--channel", type=int, default=1)
    parser.add_argument("--client-version", help="what the release gate takes it for, like 1.4.2")
    return parser.parse_args(arguments)


def _credentials(options: argparse.Namespace) -> Credentials:
    """Asks for what was not given: before the event loop runs, so that Ctrl-C ends a question."""
    given = (options.email, options.password_file, options.name or not options.register)
    if not all(given) and not sys.stdin.isatty():
        raise CannotStart(
            "without a terminal to ask in, --email and --password-file are needed, "
            "and --name with --register"
        )
    email = options.email or input("e-mail: ")
    registering = options.register
    if options.email is None and not registering:
        registering = input("do you have an account? [y/n] ").strip().lower().startswith("n")
    if options.password_file is None:
        password = getpass.getpass("password: ")
    else:
        try:
            password = options.password_file.read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise CannotStart(f"{options.password_file} cannot be read: {error}") from None
    name = (options.name or input("display name: ")) if registering else None
    return Credentials(email, password, name)


async def _chat(options: argparse.Namespace, credentials: Credentials) -> int:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        client = Client(
            options.api_url, websocket_url=options.ws_url, client_version=options.client_version
        )
    except ValueError as error:
        raise CannotStart(str(error)) from None
    async with client:
        email, password = credentials.email, credentials.password
        if credentials.display_name is None:
            await client.login(email, password)
        else:
            await client.register(email, password, credentials.display_name)
        try:
            newest = await client.history(options.channel, limit=HISTORY)
            async with client.live() as live:
                with Terminal() as terminal:
                    for entry in newest["entries"]:
                        terminal.say(line_of(entry) or "")
                    talk = Talk(live, terminal, options.channel)
                    return await talk.run(after_seq=newest["last_seq"])
        finally:
            # Nobody will use the session again. Where it has ended already there is nothing to do.
            with contextlib.suppress(ApiError, OSError):
                async with asyncio.timeout(LOGOUT_SECONDS):
                    await client.logout()


class Talk:
    """One conversation: what arrives is shown, what is typed is sent, one line after the other."""

    def __init__(self, live: Live, terminal: Terminal, channel_id: int) -> None:
        self._live = live
        self._terminal = terminal
        self._channel_id = channel_id
        self._shown_seq = 0
        self._shown = asyncio.Event()
        self._unsent = 0
        self._sending = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()

    async def run(self, after_seq: int) -> int:
        """Ends with the input, after everything typed has been acknowledged."""
        self._shown_seq = after_seq
        writing = asyncio.create_task(self._write())
        tasks = {
            writing,
            asyncio.create_task(self._show_events()),
            asyncio.create_task(self._join(after_seq)),
        }
        try:
            while not writing.done():
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                tasks -= done
        finally:
            tasks |= self._leaving
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return 1 if self._unsent else 0

    async def _join(self, after_seq: int) -> None:
        await self._live.subscribe(self._channel_id, after_seq=after_seq)
        self._terminal.say("* you are in; type, and end with Ctrl-D")

    async def _show_events(self) -> None:
        was_offline = False
        async for event in self._live:
            if event["type"] == "online" and was_offline:
                self._terminal.say(f"* online again, resuming after {self._shown_seq}")
            was_offline = event["type"] == "offline"
            line = line_of(event)
            if line is not None:
                self._terminal.say(line)
            if event["type"] == "drain_started":
                self._leaving.add(asyncio.create_task(self._acknowledge(event["event_id"])))
            if "seq" in event:
                self._shown_seq = event["seq"]
                self._shown.set()

    async def _acknowledge(self, event_id: int) -> None:
        """What we must save is what was typed: nothing else gets lost with the connection."""
        with contextlib.suppress(SendRefused, LiveEnded):  # called off, or over before that
            async with self._sending:
                await self._live.acknowledge_drain(event_id)

    async def _write(self) -> None:
        seq = 0
        while (line := await self._terminal.lines.get()) is not None:
            if line.strip():
                async with self._sending:
                    seq = max(seq, await self._send(line))
        # What was typed last is shown before we go, also when the input was a pipe.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ECHO_SECONDS):
                while self._shown_seq < seq:
                    self._shown.clear()
                    await self._shown.wait()

    async def _send(self, line: str) -> int:
        """The line's seq; 0 when the server will not have it."""
        identifier = str(uuid.uuid4())
        while True:
            try:
                ack = await self._live.send(self._channel_id, line, identifier)
                return int(ack["seq"])
            except SendRefused as error:
                wait = error.retry_after_seconds
                if error.code != "rate_limited" or wait is None:
                    self._terminal.say(printable(f"* not sent: {error.message}"))
                    self._unsent += 1
                    return 0
                self._terminal.say(f"* too fast: the next line goes out in {wait:.0f} s")
                await asyncio.sleep(wait)


def _complain(text: str) -> None:
    print(f"chat: {printable(text)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
