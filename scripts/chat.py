"""A chat in the terminal, on the channel Global: it reconnects and resumes by itself.

    scripts/chat [API_URL] [--email E] [--register] [--name N] [--channel ID] [--password-file F]

What is not given is asked for. Lines from standard input are sent; Ctrl-D or Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import sys
import threading
import unicodedata
from pathlib import Path
from typing import Any

from gatehouse_client import ApiError, Client, Live, LiveEnded, SendRefused

HISTORY = 20


def main(arguments: list[str]) -> int:
    options = _parse(arguments)
    try:
        return asyncio.run(_chat(options))
    except (KeyboardInterrupt, EOFError):
        return 0
    except ApiError as error:
        print(f"chat: {error.message}", file=sys.stderr)
    except LiveEnded as error:
        print(f"chat: the connection ended: {error}", file=sys.stderr)
    except OSError as error:
        print(f"chat: {options.api_url} cannot be reached: {error}", file=sys.stderr)
    return 1


def _parse(arguments: list[str]) -> argparse.Namespace:
    port = os.environ.get("GATEHOUSE_API_PORT", "8000")
    parser = argparse.ArgumentParser(prog="scripts/chat", description="Chat in the terminal.")
    parser.add_argument("api_url", nargs="?", default=f"http://127.0.0.1:{port}")
    parser.add_argument("--ws-url", help="instead of the one that the API names")
    parser.add_argument("--email")
    parser.add_argument("--name", help="display name, when registering")
    parser.add_argument("--register", action="store_true", help="make a new account")
    parser.add_argument("--password-file", type=Path, help="a file with the password")
    parser.add_argument("--channel", type=int, default=1)
    return parser.parse_args(arguments)


async def _chat(options: argparse.Namespace) -> int:
    async with Client(options.api_url, websocket_url=options.ws_url) as client:
        await _enter(client, options)
        newest = await client.history(options.channel, limit=HISTORY)
        entries = newest["entries"]
        for entry in entries:
            _show(entry)
        async with client.live() as live:
            reading = asyncio.create_task(_print_events(live))
            await live.subscribe(options.channel, after_seq=newest["last_seq"])
            print("* you are in; type, and end with Ctrl-D", flush=True)
            writing = asyncio.create_task(_send_lines(live, options.channel))
            done, _ = await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
            for task in (reading, writing):
                task.cancel()
            for task in done:
                task.result()
        await client.logout()
    return 0


async def _enter(client: Client, options: argparse.Namespace) -> None:
    email = options.email or input("e-mail: ")
    registering = options.register
    if options.email is None and not registering:
        registering = input("do you have an account? [y/n] ").strip().lower().startswith("n")
    if options.password_file is not None:
        password = options.password_file.read_text("utf-8").rstrip("\n")
    else:
        password = getpass.getpass("password: ")
    if registering:
        await client.register(email, password, options.name or input("display name: "))
    else:
        await client.login(email, password)


async def _print_events(live: Live) -> None:
    async for event in live:
        if event["type"] == "offline":
            print(f"* offline ({event['reason']}), back in {event['seconds']:.1f} s", flush=True)
        elif event["type"] == "online":
            print("* online", flush=True)
        else:
            _show(event)


def _show(entry: dict[str, Any]) -> None:
    kind = entry["type"]
    if kind == "message":
        text = "(erased)" if entry["content"] is None else entry["content"]
        name = printable(entry["sender_name"] or "somebody")
        print(f"{entry['seq']:>5}  {name}: {printable(text)}", flush=True)
    elif kind in ("deleted", "joined", "left"):
        print(f"{entry['seq']:>5}  * {kind}", flush=True)
    elif kind == "error":
        print(f"* {printable(str(entry.get('message')))}", flush=True)


def printable(text: str) -> str:
    """Other people's text must not move the cursor, change colours or hide itself."""
    return "".join(
        character
        if character == " " or unicodedata.category(character)[0] not in "CZ"
        else "\ufffd"
        for character in text
    )


async def _send_lines(live: Live, channel_id: int) -> None:
    """Ends with standard input, after everything typed has been acknowledged."""
    sending: set[asyncio.Task[None]] = set()
    lines = _lines()
    while (line := await lines.get()) is not None:
        if line.strip():
            task = asyncio.create_task(_send(live, channel_id, line))
            sending.add(task)
            task.add_done_callback(sending.discard)
    await asyncio.gather(*sending)


async def _send(live: Live, channel_id: int, line: str) -> None:
    try:
        await live.send(channel_id, line)
    except SendRefused as error:
        wait = f" (again in {error.retry_after_seconds} s)" if error.retry_after_seconds else ""
        print(f"* not sent: {error.message}{wait}", flush=True)


def _lines() -> asyncio.Queue[str | None]:
    """Standard input, read in a thread of its own: a file, a pipe and a terminal alike."""
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line.rstrip("\n"))
        loop.call_soon_threadsafe(lines.put_nowait, None)

    # Daemon: a terminal that nobody types in must not keep the program from ending.
    threading.Thread(target=read, daemon=True).start()
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
