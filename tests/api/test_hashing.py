"""Passwords are hashed beside everything else, not in its way."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from api.cpu_placement import all_cpus
from tests.api.conftest import PASSWORD, StartApi, new_email
from tests.support.databases import Database
from tests.support.http_calls import Answer, Http
from tests.support.processes import ServiceProcess
from tests.support.services import People

CPUS = frozenset(all_cpus())
# One running and nine waiting a CPU: api/password_hashing.py.
ROOM = 10 * (len(CPUS) or os.cpu_count() or 1)
on_linux = pytest.mark.skipif(not CPUS, reason="elsewhere threads have no CPUs of their own")
SLOW = "14"  # half as slow as in production: beside other tests hashing gets what they leave
UNLIMITED = {
    "AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_IP": "100000",
    "AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_ACCOUNT": "100000",
}


def _guess(http: Http) -> Answer:
    return http.post("/auth/login", {"email": "nobody@example.org", "password": "a wild guess"})


def test_more_logins_than_have_room_are_told_to_come_back(
    database: Database, start_api: StartApi
) -> None:
    _, http = start_api(database, **UNLIMITED, AUTH_SCRYPT_LOG2_N=SLOW)
    with ThreadPoolExecutor(2 * ROOM) as threads:
        answers = list(threads.map(lambda _: _guess(http), range(2 * ROOM)))
    codes = Counter(answer.error["code"] for answer in answers)
    assert codes["invalid_credentials"] >= ROOM
    assert codes["unavailable"] > 0
    assert set(codes) == {"invalid_credentials", "unavailable"}
    assert all(a.headers["Retry-After"] for a in answers if a.error["code"] == "unavailable")


def test_a_registration_that_finds_no_room_is_not_counted(
    database: Database, start_api: StartApi
) -> None:
    maximum = 3
    _, http = start_api(
        database,
        **UNLIMITED,
        AUTH_SCRYPT_LOG2_N=SLOW,
        API_THREADS=str(2 * ROOM),
        AUTH_REGISTRATIONS_PER_IP_PER_HOUR=str(maximum),
    )

    def register() -> int:
        body = {"email": new_email(), "password": PASSWORD, "display_name": "Ann"}
        return http.post("/auth/register", body).status

    with ThreadPoolExecutor(2 * ROOM) as threads:
        guesses = [threads.submit(_guess, http) for _ in range(2 * ROOM)]
        wait(guesses, return_when="FIRST_COMPLETED")  # there is no room for that one
        statuses = [register() for _ in range(maximum)]
        wait(guesses)
    assert 503 in statuses
    statuses += [register() for _ in range(maximum)]
    assert statuses.count(201) == maximum
    assert statuses[-1] == (429 if statuses.count(503) < maximum else 201)


def test_a_queue_of_logins_leaves_the_others_their_threads(
    database: Database, start_api: StartApi
) -> None:
    _, http = start_api(database, **UNLIMITED, API_THREADS="1", AUTH_SCRYPT_LOG2_N=SLOW)
    with People(database) as people:
        token = people.access_token(people.person("Ann"))
    with ThreadPoolExecutor(ROOM) as threads:
        guesses = [threads.submit(_guess, http) for _ in range(ROOM)]
        wait(guesses, return_when="FIRST_COMPLETED")
        assert http.get("/auth/me", token=token).status == 200
        assert not all(guess.done() for guess in guesses)


@on_linux
def test_python_stays_on_one_cpu_and_hashing_has_all(
    database: Database, start_api: StartApi
) -> None:
    process, http = start_api(database)
    _guess(http)  # the threads that hash start with the first password
    hashing, others = _threads_allowed(process)
    assert hashing == {CPUS}
    assert len(others) == 1
    assert {len(cpus) for cpus in others} == {1}


@on_linux
def test_whoever_wants_the_scheduler_to_decide_can_have_that(
    database: Database, start_api: StartApi
) -> None:
    process, http = start_api(database, API_ONE_CPU="false")
    _guess(http)
    hashing, others = _threads_allowed(process)
    assert hashing == others == {CPUS}


def _threads_allowed(
    process: ServiceProcess,
) -> tuple[set[frozenset[int]], set[frozenset[int]]]:
    """The CPUs that threads may run on: of those that have stepped back (they hash); of others."""
    hashing: set[frozenset[int]] = set()
    others: set[frozenset[int]] = set()
    for folder in Path(f"/proc/{process.pid}/task").iterdir():
        thread = int(folder.name)
        cpus = frozenset(os.sched_getaffinity(thread))
        (hashing if os.getpriority(os.PRIO_PROCESS, thread) == 19 else others).add(cpus)
    return hashing, others
