"""Stored documents: what the fast decoder takes, it takes as Python's, which is asked for the rest."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nodeport_nft.store.objects import _JSON, _PLAIN_JSON, _UNFIT

NUMBERS = ("0", "-0", "1.5", "-0.0", "1e400", "1E+5", "18446744073709551616", "-9223372036854775809", "9" * 400, "01")
STRINGS = (
    '""',
    '"é"',
    '"\\u00e9"',
    '"\\ud83d\\ude00"',
    '"\\ud800"',
    '"\\ud800\\u0041"',
    '"\\/"',
    '"\x7f"',
    '"\t"',
    '"\\x"',
)
WORDS = ("true", "null", "NaN", "-Infinity", "nul", "")
TEXTS = st.recursive(
    st.sampled_from((*NUMBERS, *STRINGS, *WORDS)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
        st.lists(st.tuples(st.sampled_from(STRINGS), inner), max_size=3).map(
            lambda pairs: "{" + " , ".join(f"{key} :{value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=8,
)


@given(TEXTS, st.sampled_from((b"", b"\n", b"x", b"\x00", b"\xff", b" 1")))
@example('{"a":1,"a":2}', b"")
@example("[" * 90 + "]" * 90, b"")
def test_what_is_taken_is_taken_as_python_takes_it(text: str, behind: bytes) -> None:
    body = text.encode() + behind
    try:
        found = _PLAIN_JSON.decode(body)
    except _UNFIT:
        return
    assert repr(found) == repr(_JSON.decode(body.decode()))


@pytest.mark.parametrize("text", ['{"a":{"b":[1,2.5,"é",null,true]}}', '"\\ud83d\\ude00"', *NUMBERS[:-1]])
def test_these_are_taken(text: str) -> None:
    assert json.dumps(_PLAIN_JSON.decode(text.encode())) == json.dumps(_JSON.decode(text))
