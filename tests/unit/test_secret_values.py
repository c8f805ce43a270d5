"""What a secret may hold: several keys, named tokens, several passwords; and no value is told."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from typing import Any

import pytest

from rules.secret_values import Secrets, read_secrets

KEY, NEXT_KEY = (sha256(name).hexdigest()[:32] for name in (b"a key", b"the next"))
TOKEN, OTHER_TOKEN = "token-0123456789-abcdefgh", "token-9876543210-hgfedcba"


def judge(payloads: dict[str, Any]) -> tuple[Secrets, list[str]]:
    problems: list[str] = []
    production = payloads.pop("production", True)
    empty: dict[str, list[str]] = {"jwt_secret": [], "ops_api_token": [], "db_password": []}
    read_back = read_secrets(**{**empty, **payloads}, production=production, problems=problems)
    return read_back, problems


def read(**payloads: Any) -> Secrets:
    secrets, problems = judge(payloads)
    assert problems == []
    return secrets


def problems(**payloads: Any) -> list[str]:
    return judge(payloads)[1]


class TestKeys:
    @pytest.mark.parametrize(
        "payloads",
        [
            [f"{KEY}\n{NEXT_KEY}\n"],
            [f"{KEY},{NEXT_KEY}"],
            [KEY, NEXT_KEY],
            [f" {KEY} ,\r\n", f"\n{NEXT_KEY}"],
        ],
    )
    def test_several_stand_in_lines_commas_or_versions_first_first(
        self, payloads: list[str]
    ) -> None:
        assert read(jwt_secret=payloads).jwt_keys == (KEY.encode(), NEXT_KEY.encode())

    @pytest.mark.parametrize("production", [True, False])
    def test_a_key_is_at_least_as_long_as_the_hash(self, production: bool) -> None:
        assert problems(jwt_secret=[KEY, KEY[:31]], production=production) == [
            "JWT_SECRET: key 2 has fewer than 32 bytes"
        ]

    def test_production_takes_no_key_that_somebody_typed_with_one_finger(self) -> None:
        assert problems(jwt_secret=["ab" * 32]) == ["JWT_SECRET: key 1 is too regular to be random"]
        assert read(jwt_secret=["ab" * 32], production=False).jwt_keys

    @pytest.mark.parametrize(
        "key",
        ["0123456789abcdefghijklmnopqrstuvwxyz", "0123456789abcdef" * 2, "ABCDEFGHIJKLMNOP" * 3],
    )
    def test_production_takes_no_key_that_counts_up(self, key: str) -> None:
        assert problems(jwt_secret=[key]) == ["JWT_SECRET: key 1 is too regular to be random"]

    def test_production_takes_every_random_key(self) -> None:
        for number in range(2000):
            random = sha256(b"%d" % number)
            for key in (random.hexdigest(), b64encode(random.digest()).decode()):
                assert read(jwt_secret=[key]).jwt_keys == (key.encode(),)

    def test_the_same_key_twice_is_a_rotation_that_went_wrong(self) -> None:
        assert problems(jwt_secret=[KEY, KEY]) == ["JWT_SECRET: the same key stands twice"]


class TestOpsTokens:
    def test_an_entry_names_its_actor(self) -> None:
        read_back = read(ops_api_token=[f"ann:{TOKEN},deploy@ci:{OTHER_TOKEN}"]).ops_tokens
        assert read_back == (("ann", TOKEN.encode()), ("deploy@ci", OTHER_TOKEN.encode()))

    def test_a_lone_token_is_called_ops(self) -> None:
        assert read(ops_api_token=[TOKEN]).ops_tokens == (("ops", TOKEN.encode()),)

    def test_during_a_rotation_a_name_has_two(self) -> None:
        both = read(ops_api_token=[f"ann:{TOKEN}\nann:{OTHER_TOKEN}"]).ops_tokens
        assert [name for name, _ in both] == ["ann", "ann"]

    def test_no_two_names_share_a_token(self) -> None:
        assert problems(ops_api_token=[f"ann:{TOKEN},bob:{TOKEN}"]) == [
            "OPS_API_TOKEN: entry 2 has another name's token: the audit trail needs one each"
        ]

    @pytest.mark.parametrize(
        "entry", [f":{TOKEN}", "ann:", f"ann lee:{TOKEN}", f"{'a' * 65}:{TOKEN}", f"zoë:{TOKEN}"]
    )
    def test_an_entry_of_another_form_is_told_by_its_place(self, entry: str) -> None:
        assert problems(ops_api_token=[f"ok:{OTHER_TOKEN}", entry]) == [
            "OPS_API_TOKEN: entry 2 is not of the form name:token"
        ]

    @pytest.mark.parametrize("token", [f" {TOKEN}", f"{TOKEN[:20]} {TOKEN[20:]}", f"{TOKEN}\u00eb"])
    def test_a_token_that_no_header_brings_is_refused(self, token: str) -> None:
        assert problems(ops_api_token=[f"ann:{token}"]) == [
            "OPS_API_TOKEN: entry 1 has a token that no header carries: no spaces, ASCII only"
        ]

    def test_production_takes_no_short_token(self) -> None:
        assert problems(ops_api_token=[TOKEN[:23]]) == [
            "OPS_API_TOKEN: entry 1 has fewer than 24 characters"
        ]
        assert read(ops_api_token=[TOKEN[:24]]).ops_tokens
        assert read(ops_api_token=["short"], production=False).ops_tokens


class TestPasswords:
    def test_they_stand_in_lines_and_may_hold_commas_and_spaces(self) -> None:
        payloads = ["first, with a comma \n\nsecond\n", "third"]
        expected = ("first, with a comma ", "second", "third")
        assert read(db_password=payloads).db_passwords == expected


class TestNothing:
    @pytest.mark.parametrize("payload", ["", "\n", " , \n,"])
    def test_a_secret_that_is_there_holds_something(self, payload: str) -> None:
        told = problems(jwt_secret=[payload], ops_api_token=[payload], db_password=["\n\n"])
        assert told == [
            f"{name}: there is nothing in it but space and separators"
            for name in ("JWT_SECRET", "OPS_API_TOKEN", "DB_PASSWORD")
        ]


class TestSecrecy:
    def test_every_problem_is_told_at_once_and_none_holds_a_value(self) -> None:
        told = problems(
            jwt_secret=["weak-key-value", "zz" * 20],
            ops_api_token=[f"ann:{TOKEN},bob:{TOKEN}", "two words:hidden-value", "tiny"],
        )
        assert len(told) == 5
        for value in ("weak-key-value", "zz", TOKEN, "hidden-value", "two words", "tiny"):
            assert value not in "\n".join(told)

    def test_secrets_can_be_printed(self) -> None:
        secrets = read(jwt_secret=[KEY], ops_api_token=[TOKEN], db_password=["hunter2"])
        for value in (KEY, TOKEN, "hunter2"):
            assert value not in repr(secrets)
