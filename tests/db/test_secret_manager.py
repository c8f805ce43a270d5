"""Secret references: the library's own client against a server that speaks its API."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from db.secret_manager import resolve_secrets
from rules.secret_values import Secrets
from rules.settings import ConfigurationError, load
from tests.support.cluster import clean_environment
from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.secret_manager import SecretManager

KEY, NEXT_KEY = "k" * 32, "n" * 32
SECONDS_IN_ALL = 10.0


@pytest.fixture
def manager() -> Iterator[SecretManager]:
    with SecretManager() as started:
        yield started


def resolve(host: str, **references: str) -> Secrets:
    environ = {
        "APP_ENV": "test",
        "DB_HOST": "unused",
        "JWT_SECRET": "p" * 32,
        "SECRET_MANAGER_EMULATOR_HOST": host,
        **references,
    }
    return resolve_secrets(load(environ, "api"))


def problems(host: str, **references: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        resolve(host, **references)
    return caught.value.problems


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


class TestWhatIsRead:
    def test_versions_in_their_order_and_the_plain_value_beside_them_loses(
        self, manager: SecretManager
    ) -> None:
        old, new = manager.add("jwt", KEY), manager.add("jwt", f"{NEXT_KEY}\n")
        password = manager.add("db", "first password\nsecond, password\n")
        secrets = resolve(
            manager.host,
            JWT_SECRET_SECRET_REF=f"{new},{old}",
            DB_PASSWORD_SECRET_REF=password,
            DB_PASSWORD="in plain text",
            OPS_API_TOKEN="ann:a-token-in-plain-text",
        )
        assert secrets.jwt_keys == (NEXT_KEY.encode(), KEY.encode())
        assert secrets.db_passwords == ("first password", "second, password")
        assert secrets.ops_tokens == (("ann", b"a-token-in-plain-text"),)

    def test_ops_tokens_of_two_versions_are_all_good(self, manager: SecretManager) -> None:
        old = manager.add("ops", "ann:ann-had-this-token-so-far\nbob:bob-keeps-the-token-he-has")
        new = manager.add("ops", "ann:ann-gets-this-token-now\nbob:bob-keeps-the-token-he-has")
        both = resolve(manager.host, OPS_API_TOKEN_SECRET_REF=f"{new},{old}")
        assert set(both.ops_tokens) == {
            ("ann", b"ann-had-this-token-so-far"),
            ("ann", b"ann-gets-this-token-now"),
            ("bob", b"bob-keeps-the-token-he-has"),
        }
        alone = resolve(manager.host, OPS_API_TOKEN_SECRET_REF=new)
        assert ("ann", b"ann-had-this-token-so-far") not in alone.ops_tokens

    def test_latest_is_the_newest_one_outside_production(self, manager: SecretManager) -> None:
        manager.add("jwt", KEY)
        latest = manager.add("jwt", NEXT_KEY).replace("/2", "/latest")
        assert resolve(manager.host, JWT_SECRET_SECRET_REF=latest).jwt_keys == (NEXT_KEY.encode(),)

    def test_a_process_reads_no_secret_that_it_does_not_need(self, manager: SecretManager) -> None:
        password = manager.add("db", "a password")
        environ = {
            "APP_ENV": "test",
            "DB_HOST": "unused",
            "SECRET_MANAGER_EMULATOR_HOST": manager.host,
            "JWT_SECRET_SECRET_REF": manager.add("jwt", KEY),
            "DB_PASSWORD_SECRET_REF": password,
        }
        secrets = resolve_secrets(load(environ, "gateway"), {"DB_PASSWORD"})
        assert secrets.db_passwords == ("a password",)
        assert secrets.jwt_keys == ()
        assert manager.asked == [password]

    def test_without_a_reference_the_library_is_not_even_imported(self) -> None:
        program = """
import sys, threading
import api.__main__, wsgateway.__main__, db.migrate
from db.secret_manager import resolve_secrets
from rules.settings import load
environ = {"APP_ENV": "test", "DB_HOST": "x", "JWT_SECRET": "k" * 32, "DB_PASSWORD": "x"}
assert resolve_secrets(load(environ, "api")).jwt_keys
for thread in threading.enumerate():  # nor behind our back
    if thread is not threading.main_thread():
        thread.join()
found = [name for name in sys.modules if name.split(".")[0] in ("google", "grpc")]
assert not found, found
"""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            cwd=ROOT,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr


class TestWhatCannotBeRead:
    def test_every_reason_is_told_at_once_by_variable_and_reference(
        self, manager: SecretManager
    ) -> None:
        good = manager.add("jwt", KEY)
        disabled, destroyed = manager.add("jwt", NEXT_KEY), manager.add("jwt", NEXT_KEY)
        manager.set_state(disabled, "DISABLED")
        manager.set_state(destroyed, "DESTROYED")
        missing = "projects/p/secrets/jwt/versions/9"
        denied, damaged = manager.add("ops", "x" * 24), manager.add("db", "secret-in-db")
        binary = manager.add("binary", b"\xff\xfe")
        manager.deny.add("ops")
        manager.damage.add("db")
        with at_most(SECONDS_IN_ALL):
            told = problems(
                manager.host,
                JWT_SECRET_SECRET_REF=f"{good},{disabled},{destroyed},{missing}",
                OPS_API_TOKEN_SECRET_REF=denied,
                DB_PASSWORD_SECRET_REF=f"{damaged},{binary}",
            )
        assert told == [
            f"JWT_SECRET_SECRET_REF: {disabled} is disabled or destroyed",
            f"JWT_SECRET_SECRET_REF: {destroyed} is disabled or destroyed",
            f"JWT_SECRET_SECRET_REF: {missing} does not exist",
            f"OPS_API_TOKEN_SECRET_REF: {denied} may not be read by this service account"
            " (roles/secretmanager.secretAccessor), or does not exist",
            f"DB_PASSWORD_SECRET_REF: {damaged} arrived damaged: its checksum does not match",
            f"DB_PASSWORD_SECRET_REF: {binary} is not UTF-8 text",
        ]

    def test_a_weak_value_is_told_together_with_an_unreadable_one(
        self, manager: SecretManager
    ) -> None:
        weak, missing = manager.add("jwt", "weak-value"), "projects/p/secrets/db/versions/1"
        told = problems(manager.host, JWT_SECRET_SECRET_REF=weak, DB_PASSWORD_SECRET_REF=missing)
        assert told == [
            f"DB_PASSWORD_SECRET_REF: {missing} does not exist",
            "JWT_SECRET: key 1 has fewer than 32 bytes",
        ]

    def test_one_that_is_down_or_slow_is_asked_again_and_given_up_in_time(
        self, manager: SecretManager
    ) -> None:
        references = f"{manager.add('jwt', KEY)},{manager.add('jwt', NEXT_KEY)}"
        both = {"JWT_SECRET_SECRET_REF": references, "DB_PASSWORD_SECRET_REF": references}
        manager.delay_seconds = 60
        with at_most(SECONDS_IN_ALL), ThreadPoolExecutor() as threads:
            slow = threads.submit(problems, manager.host, **both)
            down = threads.submit(problems, f"127.0.0.1:{free_port()}", **both)
        for told in (slow.result(), down.result()):
            assert len(told) == 4
            assert all(
                problem.endswith("Secret Manager did not answer in time") for problem in told
            )
        assert len(manager.asked) > 2

    def test_one_that_comes_back_in_time_is_read_all_the_same(self, manager: SecretManager) -> None:
        reference = manager.add("jwt", KEY)
        manager.stalls = 1
        assert resolve(manager.host, JWT_SECRET_SECRET_REF=reference).jwt_keys == (KEY.encode(),)
        assert len(manager.asked) == 2

    def test_without_credentials_the_way_to_them_is_told(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A file that is not there: what the machine itself might have does not count then.
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent/credentials.json")
        environ = {"APP_ENV": "test", "DB_HOST": "x"}
        environ["JWT_SECRET_SECRET_REF"] = "projects/p/secrets/jwt/versions/1"
        with at_most(SECONDS_IN_ALL), pytest.raises(ConfigurationError) as caught:
            resolve_secrets(load(environ, "api"))
        [problem] = caught.value.problems
        assert "no Google credentials were found" in problem
