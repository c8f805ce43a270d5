"""Loopback ports for services under test."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from functools import cache

# Below the kernel's range of outgoing connections, and apart from the embedded Postgres.
_PORTS = range(12_000, 20_000)
_handed_out: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on, and that no test process of ours on this machine has been
    handed: it stays the caller's until this process ends, also while nothing listens there.

    Otherwise a service whose port was taken in between would end, and its test talk to the one of
    another worker, which answers that it is ready.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        if port not in _handed_out and not is_listening(port) and _can_bind(port) and _claim(port):
            _handed_out.add(port)
            return port
    raise AssertionError(f"no free port between {_PORTS.start} and {_PORTS.stop}")


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _claim(port: int) -> bool:
    """Locks the port's byte of a file; the kernel unlocks it when this process ends."""
    try:
        fcntl.lockf(_claims(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@cache
def _claims() -> int:
    """The file's descriptor. To close any descriptor of this file would give up every claim."""
    path = os.path.join(tempfile.gettempdir(), f"gatehouse-test-ports-{os.getuid()}")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
