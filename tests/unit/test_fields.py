"""The fields of requests and frames: what each accepts, and that nothing passes unasked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rules import fields
from rules.errors import Refusal
from rules.fields import MAX_ID, Fields, email_key
from tests.support.fuzz import FEW

Reader = Callable[[str, Any], Any]
KEY = "8c6f0d8e-52a4-4b0e-9a3e-0d3a5c1f2b47"
NO_STRINGS: list[Any] = [None, True, 0, 1.5, [], ["a"], {}]


def refused(read: Reader, value: Any) -> str:
    with pytest.raises(Refusal) as caught:
        read("it", value)
    assert caught.value.code == "validation_failed"
    assert caught.value.details == {"field": "it"}
    assert caught.value.message.startswith("it must ")
    return caught.value.message


class TestWalkingAnObject:
    def test_a_missing_field_is_named(self) -> None:
        with pytest.raises(Refusal, match="content is missing"):
            Fields({"other": 1}).required("content", fields.text)

    def test_an_optional_field_may_be_missing_but_not_null(self) -> None:
        members = Fields({"present": None})
        assert members.optional("absent", fields.text) is None
        with pytest.raises(Refusal, match="present must be a string"):
            members.optional("present", fields.text)

    def test_a_field_that_nobody_asked_for_is_named(self) -> None:
        members = Fields({"a": "1", "is_admin": True})
        assert members.required("a", fields.text) == "1"
        with pytest.raises(Refusal, match="is_admin is not a known field") as caught:
            members.end()
        assert caught.value.details == {"field": "is_admin"}

    def test_a_very_long_unknown_name_is_not_said_back_whole(self) -> None:
        with pytest.raises(Refusal) as caught:
            Fields({"x" * 10_000: 1}).end()
        assert len(caught.value.message) < 100

    def test_an_object_of_which_everything_was_asked_for_ends_well(self) -> None:
        members = Fields({"a": "1", "b": 2})
        members.required("a", fields.text)
        members.optional("b", fields.row_id)
        members.end()

    def test_the_callers_object_is_left_alone(self) -> None:
        original = {"a": "1"}
        Fields(original).required("a", fields.text)
        assert original == {"a": "1"}


class TestNumbers:
    @pytest.mark.parametrize("value", [1, 7, MAX_ID])
    def test_an_id_is_a_positive_integer(self, value: int) -> None:
        assert fields.row_id("it", value) == value

    @pytest.mark.parametrize("value", [0, -1, MAX_ID + 1, 1.0, "1", True, None, []])
    def test_nothing_else_is_an_id(self, value: Any) -> None:
        refused(fields.row_id, value)

    @pytest.mark.parametrize("value", [0, 1, MAX_ID])
    def test_a_seq_may_be_zero(self, value: int) -> None:
        assert fields.sequence_number("it", value) == value

    @pytest.mark.parametrize("value", [-1, MAX_ID + 1, 0.0, "0", False, None])
    def test_nothing_else_is_a_seq(self, value: Any) -> None:
        refused(fields.sequence_number, value)


class TestText:
    @pytest.mark.parametrize(
        "read",
        [
            fields.text,
            fields.content(10),
            fields.display_name,
            fields.email,
            fields.new_password,
            fields.submitted_password,
            fields.client_msg_id,
        ],
    )
    @pytest.mark.parametrize("value", NO_STRINGS)
    def test_what_is_no_string_is_no_text(self, read: Reader, value: Any) -> None:
        assert refused(read, value) == "it must be a string"

    @pytest.mark.parametrize(
        ("read", "shortest", "longest"),
        [
            (fields.content(2000), 1, 2000),
            (fields.display_name, 1, 40),
            (fields.new_password, 8, 128),
            (fields.submitted_password, 1, 128),
        ],
    )
    def test_lengths_are_counted_in_characters(
        self, read: Reader, shortest: int, longest: int
    ) -> None:
        for length in (shortest, longest):
            assert read("it", "😀" * length) == "😀" * length
        for length in (shortest - 1, longest + 1):
            assert refused(read, "😀" * length).endswith(f"{shortest} to {longest} characters")

    def test_content_is_kept_exactly_as_it_was_sent(self) -> None:
        for text in (" a ", "line\nline", "\tx", "e\u0301", "\u200d"):
            assert fields.content(10)("it", text) == text

    @pytest.mark.parametrize("text", [" ", "\n\t\r", "\u00a0\u3000\u2003"])
    def test_content_is_more_than_white_space(self, text: str) -> None:
        assert refused(fields.content(10), text) == "it must not be only white space"

    @pytest.mark.parametrize(
        "name", ["A", "Ann Lee", "李小龙", "Zoë", "👩\u200d🚀", "\u05d0\u200fx", "a" * 40]
    )
    def test_a_name_may_be_in_any_script(self, name: str) -> None:
        assert fields.display_name("it", name) == name

    @pytest.mark.parametrize(
        "character",
        ["\n", "\r", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ue000", "\u0378", "\U0010ffff"],
    )
    def test_a_name_has_no_controls_and_breaks_no_line(self, character: str) -> None:
        assert refused(fields.display_name, f"a{character}b").endswith("control characters")

    @pytest.mark.parametrize(
        "character", [*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"]
    )
    def test_a_name_cannot_turn_round_the_text_beside_it(self, character: str) -> None:
        assert refused(fields.display_name, f"a{character}b").endswith("control characters")

    def test_passwords_are_taken_as_they_are(self) -> None:
        for password in ("        ", "pässwörd\x01", "e\u0301" * 8):
            assert fields.new_password("it", password) == password


class TestClientMessageIds:
    def test_one_id_in_either_case_is_one_id(self) -> None:
        assert fields.client_msg_id("it", KEY) == UUID(KEY)
        assert fields.client_msg_id("it", KEY.upper()) == UUID(KEY)

    @pytest.mark.parametrize(
        "value",
        [
            "",
            KEY[:-1],
            KEY + "0",
            KEY.replace("-", ""),
            "{" + KEY + "}",
            "urn:uuid:" + KEY,
            KEY.replace("8", "\u0668"),
            KEY.replace("8c", "8_"),
            " " + KEY,
            KEY + "\n",
        ],
    )
    def test_another_spelling_of_an_id_is_refused(self, value: str) -> None:
        assert "must be a UUID" in refused(fields.client_msg_id, value)


class TestEmails:
    @pytest.mark.parametrize(
        "address",
        [
            "a@b",
            "Ann.Lee+chat@example.org",
            "õ@пример.рф",
            '"odd"@example.org',
            "a" * 242 + "@example.org",
        ],
    )
    def test_one_at_with_something_on_both_sides_is_an_address(self, address: str) -> None:
        assert fields.email("it", address) == address

    @pytest.mark.parametrize(
        "address",
        [
            "abc",
            "@example.org",
            "ann@",
            "a@b@c",
            "a\uff20b@c",
            "a b@example.org",
            "ann@example.org\n",
            "a\u00a0@example.org",
            "a\x00@example.org",
            "a\u2028b@example.org",
            "a" * 243 + "@example.org",
            "\ufdfa" * 30 + "@example.org",
        ],
    )
    def test_nothing_else_is(self, address: str) -> None:
        refused(fields.email, address)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("Ann@Example.ORG", "ann@example.org"),
            ("\uff21nn@example.org", "ann@example.org"),
            ("stra\u00dfe@example.org", "STRASSE@example.org"),
            ("\ufb01sh@example.org", "FISH@example.org"),
            ("e\u0301@example.org", "\u00c9@example.org"),
            ("\u212aelvin@example.org", "kelvin@example.org"),
            ("\u1fb3@example.org", "\u0391\u0399@example.org"),
            ("ann\uff20example.org", "ann@example.org"),
        ],
    )
    def test_two_spellings_of_one_address_are_one_account(self, one: str, other: str) -> None:
        assert email_key(one) == email_key(other)

    def test_different_addresses_stay_apart(self) -> None:
        addresses = ["ann@example.org", "an.n@example.org", "ann+1@example.org", "anñ@example.org"]
        assert len({email_key(address) for address in addresses}) == len(addresses)

    def test_the_key_of_every_single_character_is_its_own_key(self) -> None:
        for number in range(sys.maxunicode + 1):
            key = email_key(chr(number))
            assert email_key(key) == key, hex(number)

    @FEW
    @given(address=st.text())
    @example("\u0345\u0301\u03b1")
    @example("\u1f80\u0345\u0327")
    def test_a_key_is_its_own_key(self, address: str) -> None:
        key = email_key(address)
        assert email_key(key) == key
        assert email_key(address.upper()) == email_key(address.upper().lower().upper())
