"""Several gateway processes on one port: the kernel spreads new connections over them.

Each process is a whole gateway with its own pool and listener; they meet only in Postgres. One
that dies is replaced, loudly; when they cannot even start, all of them end, so that the platform
sees it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

logger = logging.getLogger("gatehouse.gateway")

CHILD_MARK = "GATEHOUSE_GATEWAY_CHILD"  # holds the process id of the parent
STOP_SECONDS = 10.0
POLL_SECONDS = 0.2
PARENT_POLL_SECONDS = 1.0
# A process that ends sooner than this after its start did not get as far as serving.
EARLY_SECONDS = 5.0


def supervise(host: str, port: int, count: int) -> int:
    """Runs `count` gateways until SIGTERM or Ctrl-C; the exit code is that of the process."""
    # With SO_REUSEPORT a second set of gateways would bind without complaint and take half of the
    # clients; so the port is tried without it first.
    with socket.create_server((host, port), family=_family(host)):
        pass
    stopping = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopping.set())
    children = [_start() for _ in range(count)]
    exit_code = 0
    while not stopping.wait(POLL_SECONDS):
        for position, (child, started) in enumerate(children):
            if child.poll() is None:
                continue
            logger.error("gateway process %d ended with code %d", child.pid, child.returncode)
            if child.returncode > 0 and time.monotonic() - started < EARLY_SECONDS:
                exit_code = child.returncode
                stopping.set()
                break
            children[position] = _start()
    _stop([child for child, _ in children])
    return exit_code


async def stop_with_parent(stop: Callable[[], None]) -> None:
    """In a child: a killed parent can tell nobody to stop, so its children look for themselves."""
    parent = int(os.environ[CHILD_MARK])
    while os.getppid() == parent:
        await asyncio.sleep(PARENT_POLL_SECONDS)
    logger.error("the process that watched over this one is gone: stopping")
    stop()


def _start() -> tuple[subprocess.Popen[bytes], float]:
    # In a process group of its own: Ctrl-C in a terminal reaches this process alone, which passes
    # it on once.
    child = subprocess.Popen(
        [sys.executable, "-m", "wsgateway"],
        env={**os.environ, CHILD_MARK: str(os.getpid())},
        start_new_session=True,
    )
    return child, time.monotonic()


def _stop(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            logger.error("gateway process %d did not stop in time", child.pid)
            child.kill()
            child.wait()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
