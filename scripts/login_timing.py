"""Measures whether the time of a refused login tells who has an account.

    scripts/login-timing API_URL [--tries N] [--disabled EMAIL]

Registers an account, then gives wrong passwords for it and for one that nobody has (and for a
disabled one, where its address is given), in random order and one at a time. Prints medians and
quartiles, the ratio of the medians, and how often a try at one account takes longer than a try at
the unknown one: 0.50 says that nothing can be told. The API needs room for the tries:

    AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_IP and _PER_ACCOUNT above the number of all tries

Exit code 1: the answers differ in more than their time, or the API has no room.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import secrets
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

UNKNOWN = "unknown"
_SECONDS = 30.0
_DIFFERS_ANYWAY = {"date", "x-request-id"}


class CannotMeasure(Exception):
    """The API does not answer as a measurement needs it."""


@dataclass(slots=True)
class Subject:
    """One account that passwords are tried on, and what came of it."""

    email: str
    milliseconds: list[float] = field(default_factory=list)
    answers: set[tuple[Any, ...]] = field(default_factory=set)


class Api:
    """One connection that is kept, so that connecting is no part of what is measured."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._connection = kind(parts.hostname or "", parts.port, timeout=_SECONDS)

    def post(self, path: str, body: dict[str, str]) -> tuple[http.client.HTTPResponse, bytes]:
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", path, json.dumps(body), headers)
        response = self._connection.getresponse()
        return response, response.read()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/login-timing")
    parser.add_argument("api_url")
    parser.add_argument("--tries", type=int, default=200, help="for each account")
    parser.add_argument("--disabled", metavar="EMAIL", help="an account that is disabled")
    options = parser.parse_args(arguments)
    api = Api(options.api_url)
    try:
        subjects = _subjects(api, options.disabled)
        _measure(api, subjects, options.tries)
    except (CannotMeasure, OSError) as error:
        print(f"login-timing: {error}", file=sys.stderr)
        return 1
    _show(subjects)
    if len(set.union(*(subject.answers for subject in subjects.values()))) != 1:
        print("login-timing: the answers differ in more than their time", file=sys.stderr)
        return 1
    return 0


def _subjects(api: Api, disabled: str | None) -> dict[str, Subject]:
    known, nobody = (f"timing-{secrets.token_hex(8)}@example.org" for _ in range(2))
    account = {"email": known, "password": secrets.token_urlsafe(16), "display_name": "Timing"}
    response, _ = api.post("/auth/register", account)
    if response.status != 201:
        raise CannotMeasure(f"registration was answered with {response.status}")
    subjects = {"known": Subject(known), UNKNOWN: Subject(nobody)}
    if disabled is not None:
        subjects["disabled"] = Subject(disabled)
    return subjects


def _measure(api: Api, subjects: dict[str, Subject], tries: int) -> None:
    # Drawn anew each time: whatever the machine does meanwhile falls on all of them alike.
    order = list(subjects.values()) * tries
    random.shuffle(order)
    for subject in order:
        # As long as each other, never right.
        attempt = {"email": subject.email, "password": secrets.token_urlsafe(16)}
        started = time.perf_counter()
        response, body = api.post("/auth/login", attempt)
        elapsed = time.perf_counter() - started
        if response.status != 401:
            raise CannotMeasure(f"a login was answered with {response.status}: {body.decode()}")
        subject.milliseconds.append(1000 * elapsed)
        subject.answers.add(_comparable(response, body))


def _comparable(response: http.client.HTTPResponse, body: bytes) -> tuple[Any, ...]:
    """The whole answer but for what differs between any two."""
    request_id = response.getheader("X-Request-ID", "").encode()
    headers = [(n, v) for n, v in response.getheaders() if n.lower() not in _DIFFERS_ANYWAY]
    return response.status, tuple(headers), body.replace(request_id, b"")


def _show(subjects: dict[str, Subject]) -> None:
    unknown = subjects[UNKNOWN].milliseconds
    print(f"{'':<10}{'tries':>6}{'25 %':>9}{'median':>9}{'75 %':>9}   ratio  longer than unknown")
    for name, subject in subjects.items():
        first, middle, third = statistics.quantiles(subject.milliseconds, n=4)
        ratio = middle / statistics.median(unknown)
        print(
            f"{name:<10}{len(subject.milliseconds):>6}{first:>9.1f}{middle:>9.1f}{third:>9.1f}"
            f"{ratio:>8.3f}{_share_longer(subject.milliseconds, unknown):>8.2f}"
        )


def _share_longer(these: list[float], those: list[float]) -> float:
    longer = sum(one > other for one in these for other in those)
    return longer / (len(these) * len(those))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
