"""JSON from outside: an object that means one thing, or a refusal that says what is wrong."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.errors import Refusal
from rules.json_input import MAX_DEPTH, MAX_INTEGER, read_object
from tests.support.fuzz import FEW, bodies

FITTING = {"type": "send", "channel_id": 1, "content": "hi", "more": {"list": [1, "two"]}}


def refused(data: bytes | str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read_object(data)
    return caught.value


def nested(levels: int, opening: str = "[", closing: str = "]") -> str:
    """An object that is `levels` deep in all."""
    return '{"a":' + opening * (levels - 1) + closing * (levels - 1) + "}"


class TestAccepted:
    @pytest.mark.parametrize(
        "text",
        [
            "{}",
            ' \t\r\n{"a" : [1, -2.5e3, true, false, null, "\\u00e9\\ud83d\\ude00"]}\n',
            '{"a":{"a":{"a":1}},"b":{"a":2}}',
            '{"":1}',
            f'{{"a":{MAX_INTEGER},"b":-{MAX_INTEGER}}}',
            '{"a":-0,"b":0.0,"c":1e-400}',
            '{"brackets":"' + "[{" * 500 + '","quote":"\\"[[["}',
            nested(MAX_DEPTH),
        ],
    )
    def test_it_is_read_as_any_json_reader_would(self, text: str) -> None:
        assert read_object(text) == json.loads(text)
        assert read_object(text.encode()) == json.loads(text)

    def test_text_outside_ascii_is_kept_as_it_is(self) -> None:
        assert read_object('{"a":"é😀\u2028"}'.encode()) == {"a": "é😀\u2028"}


class TestMalformed:
    @pytest.mark.parametrize(
        "data",
        [
            "",
            " ",
            "{",
            '{"a":1',
            '{"a":1,}',
            "{'a':1}",
            '{"a":1}{"b":2}',
            '{"a":1} x',
            '{"a":01}',
            '{"a":.5}',
            '{"a":"\n"}',
            '{"a":"\\x41"}',
            "// {}",
            "null",
            "7",
            '"{}"',
            "[]",
            '[{"a":1}]',
            "\ufeff{}",
            b"\xff\xfe{\x00}\x00",
            b'{"a":"\xff"}',
            b'{"a":"\xed\xa0\x80"}',
            b'{"a":"\xc0\x80"}',
        ],
    )
    def test_what_is_no_object_in_utf8_is_malformed(self, data: bytes | str) -> None:
        assert refused(data).code == "malformed_json"

    @pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
    def test_a_constant_of_javascript_is_no_json(self, constant: str) -> None:
        for value in (constant, f"[1, {constant}]"):
            refusal = refused(f'{{"outer":{{"n":{value}}}}}')
            assert refusal.code == "malformed_json"
            assert refusal.message == f"outer.n is {constant}, which is no JSON"
            assert refusal.details == {"field": "outer.n"}

    @pytest.mark.parametrize(
        ("text", "field"),
        [
            ('{"a":1,"a":1}', "a"),
            ('{"z":1,"b":{"y":0,"c":1,"c":2}}', "b.c"),
            ('{"z":1,"a":1,"\\u0061":2}', "a"),
            ('{"l":[{"k":1,"k":2}]}', "l.k"),
            ('{"a":{"":1,"":2}}', "a."),
            ('{"":1,"":2}', "a key"),
            ('{"a":NaN,"a":{"b":1,"b":1}}', "a"),
        ],
    )
    def test_a_key_that_stands_twice_is_refused_at_any_depth_and_spelling(
        self, text: str, field: str
    ) -> None:
        refusal = refused(text)
        assert refusal.code == "malformed_json"
        assert refusal.message == f"{field} occurs twice in one object"
        assert refusal.details == {"field": field}

    @pytest.mark.parametrize(
        "text",
        [
            nested(MAX_DEPTH + 1),
            nested(100_000),
            nested(100_000, '{"a":', "}"),
            "[" * 1_000_000,
            "[" * 40 + "]" * 40 + "[",
            '{"a":"\\"' + '",' + '"b":' + "[" * 50 + "]" * 50 + "}",
        ],
    )
    def test_deep_nesting_is_refused_before_it_costs_anything(self, text: str) -> None:
        refusal = refused(text)
        assert refusal.code == "malformed_json"
        assert refusal.message.rstrip(".").endswith(f"is nested deeper than {MAX_DEPTH} levels")

    @pytest.mark.parametrize(
        ("text", "details"),
        [
            (nested(MAX_DEPTH + 1), {"field": "a"}),
            ('{"b":["c",{"d":1}],"a" : ' + "[" * 40, {"field": "a"}),
            ('{"b":1,"\\u0061":' + '{"x":' * 40, {"field": "a"}),
            ('{"' + "k" * 99 + '":' + "[" * 40, {"field": "k" * 64}),
            ('{"\\ud800":' + "[" * 40, {"field": "?"}),
            # No member of an object, or no object at all.
            ("[" * 40, {}),
            ('{"\\x":' + "[" * 40, {}),
            # A value, which may be a secret, is never taken for a key.
            ('{"password":"secret"' + "[" * 40, {"field": "password"}),
            ('["secret",' + "[" * 40, {}),
        ],
    )
    def test_it_names_the_field_of_the_top_level(self, text: str, details: Any) -> None:
        assert refused(text).details == details

    @pytest.mark.parametrize(
        "text",
        [
            '"' + '\\"' * 30_000 + "[" * 40,
            ('"' + " " * 700) * 90 + "[" * 40,
            '{"' + "k" * 30_000 + '":{' + ",".join(f'"{n}":1' for n in range(4_000)) + ',"1":1}}',
            "{" + ",".join(f'"{n}":1' for n in range(6_000)) + ',"1":1}',
        ],
    )
    def test_no_text_of_the_size_of_a_body_costs_more_than_a_moment(self, text: str) -> None:
        # A search that begins anew in the first of them takes a minute.
        started = time.process_time()
        refused(text)
        assert time.process_time() - started < 0.5

    def test_closing_brackets_without_opening_ones_buy_no_depth(self) -> None:
        assert refused("]" * 100 + "[" * 50).code == "malformed_json"


class TestValuesThatAreRefused:
    @pytest.mark.parametrize(
        "number",
        [
            str(MAX_INTEGER + 1),
            str(-MAX_INTEGER - 1),
            "9" * 5000,
            "-" + "9" * 5000,
            "1e999",
            "-1e999",
            "1" + "0" * 400 + ".0",
        ],
    )
    def test_a_number_that_clients_read_differently_names_its_field(self, number: str) -> None:
        refusal = refused(f'{{"outer":{{"n":{number}}}}}')
        assert refusal.code == "validation_failed"
        assert refusal.message == "outer.n is out of range"
        assert refusal.details == {"field": "outer.n"}

    @pytest.mark.parametrize(
        ("value", "problem"),
        [
            ('"a\\u0000b"', "must not contain NUL"),
            ('"\\ud800"', "must not contain lone surrogates"),
            ('"\\udc00\\ud800"', "must not contain lone surrogates"),
            ('["fine", {"inner": "\\udfff"}]', "must not contain lone surrogates"),
        ],
    )
    def test_text_that_cannot_be_kept_names_its_field(self, value: str, problem: str) -> None:
        refusal = refused(f'{{"text":{value}}}')
        assert refusal.code == "validation_failed"
        assert refusal.details["field"] in ("text", "text.inner")
        assert refusal.message.endswith(problem)

    @pytest.mark.parametrize("key", ["\\ud800", "a\\u0000"])
    def test_a_key_that_cannot_be_kept_is_refused_in_words_that_can_be_sent(self, key: str) -> None:
        for text in (f'{{"{key}":1}}', f'{{"outer":{{"{key}":"\\u0000"}}}}'):
            refusal = refused(text)
            assert refusal.code == "validation_failed"
            assert refusal.message.encode("utf-8")
            assert json.dumps(refusal.details).encode("utf-8")


def object_or_refusal(data: bytes | str) -> dict[str, Any] | Refusal:
    try:
        return read_object(data)
    except Refusal as refusal:
        return refusal


@FEW
@given(data=bodies(FITTING))
def test_any_bytes_give_an_object_or_a_refusal_and_nothing_else(data: bytes) -> None:
    answer = object_or_refusal(data)
    if isinstance(answer, Refusal):
        assert answer.code in ("malformed_json", "validation_failed")
        assert f"{answer.message}{answer.details}".encode()
    else:
        assert json.loads(data) == answer
        assert json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()


@FEW
@given(text=st.text(st.characters(codec=None) | st.sampled_from('[]{}",:\\u0d89 eE-+.nt')))
def test_any_text_gives_an_object_or_a_refusal_and_nothing_else(text: str) -> None:
    answer = object_or_refusal(text)
    assert isinstance(answer, dict) or answer.message.encode("utf-8")
