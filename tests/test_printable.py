# SPDX-License-Identifier: LGPL-3.0-or-later
"""What is invisible or turns text is shown: the same characters on a terminal and on a page."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from webscheduler.admin.web import escape
from webscheduler.cli.terminal import line
from webscheduler.printable import escaped, pictured

EVERY = [chr(number) for number in range(sys.maxunicode + 1)]
SHOWN = [character for character in EVERY if escaped(character) != character]


def test_both_doors_show_the_same_characters() -> None:
    """Over all code points, terminal and page agree; what is shown holds none of them again."""
    assert [character for character in EVERY if pictured(character) != character] == SHOWN
    assert [character for character in EVERY if escape(character) == pictured(character) != character] == SHOWN
    assert set(line("".join(EVERY))).isdisjoint({*SHOWN, "\t", "\n"})
    assert set(escape("".join(EVERY))).isdisjoint(SHOWN)


@pytest.mark.parametrize("category", ["Cc", "Cs", "Zl", "Zp"])
def test_no_control_surrogate_or_separator_is_left_out(category: str) -> None:
    """Each character of these categories is shown, but for tab and line break."""
    assert {character for character in EVERY if unicodedata.category(character) == category} - {*SHOWN} <= {"\t", "\n"}


def test_marks_of_direction_are_shown() -> None:
    """All that embed, override or isolate (UAX 9), and the three marks beside them."""
    turning = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    assert {*"\u061c\u200e\u200f", *(c for c in EVERY if unicodedata.bidirectional(c) in turning)} <= {*SHOWN}


def test_nothing_that_can_be_seen_is_taken_away() -> None:
    """What is shown is a control, a format character, a separator of lines, a surrogate, or kept free for such."""
    assert {unicodedata.category(character) for character in SHOWN} <= {"Cc", "Cf", "Cs", "Zl", "Zp", "Cn"}
    assert not [character for character in SHOWN if character.isprintable()]


@pytest.mark.parametrize(("text", "terminal", "page"), [
    ("plain \u00e9 \u20ac \u4e2d\n\ttext", "plain \u00e9 \u20ac \u4e2d\n\ttext", "plain \u00e9 \u20ac \u4e2d\n\ttext"),
    ("\x1b[31mred\x07\r\n", "\\x1b[31mred\\x07\\r\n", "␛[31mred␇␍\n"),
    ("\x7f\x80\x9b", "\\x7f\\x80\\x9b", "⟨U+007F⟩⟨U+0080⟩⟨U+009B⟩"),
    ("\u202eevil\u2066\u200f", "\\u202eevil\\u2066\\u200f", "⟨U+202E⟩evil⟨U+2066⟩⟨U+200F⟩"),
    ("\u2028\udcff\U000e0041", "\\u2028\\udcff\\U000e0041", "⟨U+2028⟩⟨U+DCFF⟩⟨U+E0041⟩"),
    ("a\u200bb\u2060c", "a\\u200bb\\u2060c", "a⟨U+200B⟩b⟨U+2060⟩c"),
    ("\u00a0narrow\u202f", "\u00a0narrow\u202f", "\u00a0narrow\u202f"),
])
def test_how_they_are_shown(text: str, terminal: str, page: str) -> None:
    """Escapes on a terminal, signs on a page; letters, blanks and line breaks stay."""
    assert escaped(text) == terminal
    assert line(text) == terminal.replace("\n", "\\n").replace("\t", "\\t")
    assert pictured(text) == page
