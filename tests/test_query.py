# SPDX-License-Identifier: LGPL-3.0-or-later
"""The fields of a query: as urllib reads them, and no more than so many."""

from __future__ import annotations

import random
from urllib.parse import parse_qsl, urlencode

import pytest

from webscheduler.http import MAX_FIELDS, MAX_LENGTH, fields


@pytest.mark.parametrize("text", [
    "", "&", "a", "a=", "=a", "=", "a=1&a=2&b", "a=1&&b=2&", "a==b", "a=b=c", "a+b=c+d", "%61=%C3%A9", "a=%FF", "a=%zz",
    "a=%", "a=%2", "a=é", "a=\xe9%C3", "a;b=1", "a=%26%3D", "a=%2B+", "%", "+", "a=\x00", "a=\u2028", "ａ=１"])
def test_it_reads_as_urllib_does(text: str) -> None:
    assert fields(text) == parse_qsl(text, keep_blank_values=True)


def test_any_text_reads_as_urllib_reads_it() -> None:
    """Texts of the characters that mean something, and what a browser makes of any value."""
    choice = random.Random(7)

    for _ in range(2000):
        text = "".join(choice.choices("ab&&==%+2F;\xe9", k=choice.randrange(20)))
        assert fields(text) == parse_qsl(text, keep_blank_values=True), text
        pairs = [(text, text[::-1]), ("x", text)]
        assert fields(urlencode(pairs)) == pairs


def test_the_rest_of_too_much_is_left_out() -> None:
    assert fields("a=1&" * 10000) == [("a", "1")] * MAX_FIELDS
    assert fields("a=" + "b" * 100000) == [("a", "b" * (MAX_LENGTH - 2))]
    assert fields("a=bcd", 3) == [("a", "b")]
