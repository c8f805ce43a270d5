"""What we write as an array Postgres reads as the same values."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
from hypothesis import given
from hypothesis import strategies as st

from db.arrays import plain_array, text_array

# What Postgres can store: no NUL, no half of a surrogate pair.
_TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
_GRAMMAR = st.text(st.sampled_from("\\\"{},' \t\n"), max_size=8)


@given(st.lists(_TEXTS | _GRAMMAR | st.sampled_from(["", "NULL", "null", "{}", '"', "\\"])))
def test_texts_come_back_as_they_were(
    admin_connection: psycopg.Connection[Any], texts: list[str]
) -> None:
    row = admin_connection.execute("SELECT %s::text[]", (text_array(texts),)).fetchone()
    assert row == (texts,)


@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.lists(st.uuids()))
def test_numbers_and_ids_come_back_as_they_were(
    admin_connection: psycopg.Connection[Any], numbers: list[int], ids: list[uuid.UUID]
) -> None:
    values = plain_array(numbers), plain_array(ids)
    row = admin_connection.execute("SELECT %s::bigint[], %s::uuid[]", values).fetchone()
    assert row == (numbers, ids)
