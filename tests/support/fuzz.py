"""Inputs without a schema, and nearly right ones, for whatever reads JSON from outside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

# Few and always the same in the suite: a build must not turn red by chance.
FEW = settings(max_examples=80, derandomize=True, deadline=None, database=None)

_NUMBERS = st.integers() | st.floats() | st.sampled_from([2**53, -(2**63), 10**400, 1e308])
_TEXT = st.text(st.characters(codec=None), max_size=50)  # lone surrogates as well
_VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)
# What a parser chokes on if it chokes at all.
_KNOWN_EVIL = st.sampled_from(
    [
        b"[" * 40_000,
        b'{"a":' * 10_000,
        b'{"a":' + b"9" * 20_000 + b"}",
        b'{"a":1e999}',
        b'{"a":NaN,"a":-Infinity}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\u0000"}',
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\x00}\x00",
        b'{"a":"' + b"\\u0041" * 5_000 + b'"}',
    ]
)


def bodies(fitting: Mapping[str, Any]) -> st.SearchStrategy[bytes]:
    """Any bytes, any JSON, and `fitting` with some of its members replaced."""
    names = sorted(fitting)
    nearly = st.dictionaries(st.sampled_from([*names, "more"]), _VALUES, max_size=3).map(
        lambda changes: {**fitting, **changes}
    )
    as_json = (nearly | _VALUES).map(lambda value: json.dumps(value).encode())
    raw = (nearly | _VALUES).map(
        lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    )
    cut = st.tuples(as_json, st.integers(0, 200)).map(lambda pair: pair[0][: pair[1]])
    return st.binary(max_size=200) | as_json | raw | cut | _KNOWN_EVIL
